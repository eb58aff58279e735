//! Installs a kernel in a home.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, Site, link_tree};
use super::result::Subject;
use super::{DEBIAN, OWN};

/// Makes a home with Debian's kernel, linked from another home or set up.
pub(super) fn debian<'a>(lab: &'a Lab, from: Option<&Path>) -> Result<Site<'a>> {
    if let Some(home) = from {
        return link_from(lab, DEBIAN, home, "debian-");
    }
    let site = lab.site(DEBIAN);
    site.mimeo(&["setup", "kernel"])?;
    record_name(site, "debian-")
}

/// Makes a home with the kernel that was built in another home.
pub(super) fn own<'a>(lab: &'a Lab, from: &Path) -> Result<Site<'a>> {
    link_from(lab, OWN, from, "build-")
}

fn link_from<'a>(lab: &'a Lab, subject: Subject, from: &Path, prefix: &str) -> Result<Site<'a>> {
    let site = lab.site(subject);
    link_tree(&from.join("kernels"), &site.home().join("kernels"))?;
    site.mimeo(&["setup", "rootfs"])?;
    record_name(site, prefix)
}

fn record_name<'a>(mut site: Site<'a>, prefix: &str) -> Result<Site<'a>> {
    let name = std::fs::read_link(site.home().join("kernels/default")).context("no kernel is set up")?;
    site.kernel = name.display().to_string();
    ensure!(site.kernel.starts_with(prefix), "kernel {} does not start with {prefix}", site.kernel);
    Ok(site)
}
