//! The source of clones: a snapshot of an idle machine.

use anyhow::Result;

use crate::bench::lab::Site;

const NAME: &str = "source";

/// Starts a machine, runs `script` in it, takes a snapshot with this tag, and stops the machine.
pub(super) fn save(site: &Site<'_>, tag: &str, options: &[&str], script: Option<&str>) -> Result<()> {
    site.start_with(NAME, options, &["sleep", "86400"])?;
    // So that the program is in the guest's memory.
    site.mimeo(&["exec", NAME, "true"])?;
    if let Some(script) = script {
        site.mimeo(&["exec", NAME, "sh", "-c", script])?;
    }
    site.mimeo(&["snapshot", "create", NAME, "--tag", tag])?;
    site.stop(NAME)
}

/// Removes the snapshot.
pub(super) fn remove(site: &Site<'_>, tag: &str) -> Result<()> {
    site.mimeo(&["snapshot", "rm", tag]).map(drop)
}
