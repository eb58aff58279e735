//! The memory of clones that have read the same memory file.

use std::path::Path;

use anyhow::Result;
use mimeo_pager::page_server::{Options, PageServer};

use super::clone_group::CloneGroup;
use super::faults;
use super::figures::{Cost, Pager};

/// Numbers of concurrent clones.
const CLONES: [usize; 3] = [1, 4, 16];

/// Measures mapped and copied memory for each number of clones.
pub(super) fn measure(pager: &mut Pager, memory: &Path) -> Result<()> {
    for clones in CLONES {
        crate::bench::announce("clones and their memory", u32::try_from(clones)?);
        let mapped = added_pss(clones, "--file", memory)?;
        let server = PageServer::open(memory, Options::default())?;
        let copied = faults::with_server(&server, |socket| added_pss(clones, "--socket", socket))?;
        pager.sharing.push(Cost { clones, mapped, copied });
    }
    Ok(())
}

/// The PSS that clones add by reading the memory.
fn added_pss(clones: usize, option: &str, path: &Path) -> Result<u64> {
    let mut group = CloneGroup::start(clones, option, path)?;
    let before = group.pss()?;
    group.touch()?;
    Ok(group.pss()?.saturating_sub(before))
}
