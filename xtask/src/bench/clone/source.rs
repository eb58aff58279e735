//! What copies are made of: a machine that waits, and a snapshot of it.

use anyhow::Result;

use crate::bench::lab::Site;

const NAME: &str = "source";

/// Keeps a machine that has run this before as `tag`, and ends it.
pub(super) fn keep(site: &Site<'_>, tag: &str, options: &[&str], before: Option<&str>) -> Result<()> {
    site.start_with(NAME, options, &["sleep", "86400"])?;
    // A program that has run once is in the guest's memory.
    site.mimeo(&["exec", NAME, "true"])?;
    if let Some(script) = before {
        site.mimeo(&["exec", NAME, "sh", "-c", script])?;
    }
    site.mimeo(&["snapshot", "create", NAME, "--tag", tag])?;
    site.stop(NAME)
}

/// Forgets it.
pub(super) fn forget(site: &Site<'_>, tag: &str) -> Result<()> {
    site.mimeo(&["snapshot", "rm", tag]).map(drop)
}
