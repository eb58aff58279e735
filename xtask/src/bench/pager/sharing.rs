//! What clones cost that have read the same memory.

use std::path::Path;

use anyhow::Result;
use mimeo_pager::serve::{Options, PageServer};

use super::crowd::Crowd;
use super::faults;
use super::figures::{Cost, Pager};

/// Clones at once.
const CLONES: [usize; 3] = [1, 4, 16];

/// Both ways, for each number of clones.
pub(super) fn measure(pager: &mut Pager, memory: &Path) -> Result<()> {
    for clones in CLONES {
        crate::bench::announce("clones and what they cost", u32::try_from(clones)?);
        let mapped = cost(clones, "--file", memory)?;
        let server = PageServer::open(memory, Options::default())?;
        let copied = faults::with(&server, |socket| cost(clones, "--socket", socket))?;
        pager.sharing.push(Cost { clones, mapped, copied });
    }
    Ok(())
}

/// What they take when they have read it, without what such a process takes anyway.
fn cost(clones: usize, option: &str, path: &Path) -> Result<u64> {
    let mut crowd = Crowd::start(clones, option, path)?;
    let before = crowd.share()?;
    crowd.touch()?;
    Ok(crowd.share()?.saturating_sub(before))
}
