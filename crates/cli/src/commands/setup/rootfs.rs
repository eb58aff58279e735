//! `mimeo setup rootfs`: builds the guests' initramfs.

use std::path::Path;

use mimeo_engine::{AGENT, Engine, MachineSpec};
use mimeo_image::blank;
use mimeo_image::blank::BlankError;
use mimeo_setup::rootfs::prepare;
use serde_json::json;

use super::steps::Steps;
use crate::error::CliError;
use crate::output;

/// How to print the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Text,
    Json,
    /// Not at all: the caller prints another result.
    Silent,
}

/// Builds the initramfs, and checks that MIMEO_HOME can hold a machine's disk.
pub(super) fn run(engine: &Engine, report: Report) -> Result<(), CliError> {
    let mut steps = Steps::new();
    steps.begin("building the guests' initramfs");
    let rootfs = prepare(engine.home().home(), AGENT, check_blank_disk)?;
    drop(steps);
    let (name, path) = (&rootfs.kernel.manifest.name, &rootfs.initramfs.path);
    match report {
        Report::Text => output::line(format!("initramfs {} is ready", path.display())),
        Report::Json => output::json(&json!({"kernel": name, "initramfs": path})),
        Report::Silent => Ok(()),
    }
}

/// Creates and removes a blank disk. Each machine creates its own; a filesystem
/// that cannot hold one is reported now.
fn check_blank_disk(home: &Path) -> Result<(), BlankError> {
    let path = home.join(format!(".try-{}", std::process::id()));
    let created = blank::create(&path, MachineSpec::new("").disk_bytes, [0; 16]);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(component = "setup", path = %path.display(), %error, "cannot remove the blank disk");
    }
    created
}
