//! Gives a home its kernel.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, Site, link_tree};
use super::result::Key;
use super::{DEBIAN, OWN};

/// A home with Debian's kernel: linked from another home, or set up here.
pub(super) fn debian<'a>(lab: &'a Lab, from: Option<&Path>) -> Result<Site<'a>> {
    if let Some(home) = from {
        return linked(lab, DEBIAN, home, "debian-");
    }
    let site = lab.site(DEBIAN);
    site.mimeo(&["setup", "kernel"])?;
    named(site, "debian-")
}

/// A home with the kernel that was built in another.
pub(super) fn own<'a>(lab: &'a Lab, from: &Path) -> Result<Site<'a>> {
    linked(lab, OWN, from, "build-")
}

fn linked<'a>(lab: &'a Lab, key: Key, from: &Path, prefix: &str) -> Result<Site<'a>> {
    let site = lab.site(key);
    link_tree(&from.join("kernels"), &site.home().join("kernels"))?;
    site.mimeo(&["setup", "rootfs"])?;
    named(site, prefix)
}

fn named<'a>(mut site: Site<'a>, prefix: &str) -> Result<Site<'a>> {
    let name = std::fs::read_link(site.home().join("kernels/default")).context("no kernel is set up")?;
    site.kernel = name.display().to_string();
    ensure!(site.kernel.starts_with(prefix), "{} is not the kernel that was meant", site.kernel);
    Ok(site)
}
