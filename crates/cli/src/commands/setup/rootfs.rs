//! `mimeo setup rootfs`: what every machine's disk and first root start from.

use std::path::Path;

use mimeo_engine::{AGENT, Engine, MachineSpec};
use mimeo_image::blank;
use mimeo_image::blank::BlankError;
use mimeo_setup::rootfs::prepare;
use serde_json::json;

use super::steps::Steps;
use crate::error::CliError;
use crate::output;

/// How the result is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Text,
    Json,
    /// Another result is.
    Silent,
}

/// Makes the first root, and tries that an empty disk can be made here.
pub(super) fn run(engine: &Engine, report: Report) -> Result<(), CliError> {
    let mut steps = Steps::new();
    steps.begin("making the guests' first root");
    let rootfs = prepare(engine.home().home(), AGENT, check_blank_disk)?;
    drop(steps);
    let (name, path) = (&rootfs.kernel.manifest.name, &rootfs.initramfs.path);
    match report {
        Report::Text => output::line(format!("first root {} is made", path.display())),
        Report::Json => output::json(&json!({"kernel": name, "initramfs": path})),
        Report::Silent => Ok(()),
    }
}

/// Each machine makes its own; a filesystem that cannot hold one shows now.
fn check_blank_disk(home: &Path) -> Result<(), BlankError> {
    let path = home.join(format!(".try-{}", std::process::id()));
    let created = blank::create(&path, MachineSpec::new("").disk_bytes, [0; 16]);
    // It may not have come to that.
    std::fs::remove_file(&path).ok();
    created
}
