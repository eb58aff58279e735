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
pub(super) enum Told {
    Words,
    Json,
    /// Another result is.
    Nothing,
}

/// Makes the first root, and tries that an empty disk can be made here.
pub(super) fn run(engine: &Engine, told: Told) -> Result<(), CliError> {
    let mut steps = Steps::new();
    steps.begin("making the guests' first root");
    let rootfs = prepare(engine.home().home(), AGENT, try_blank)?;
    drop(steps);
    let (name, path) = (&rootfs.kernel.manifest.name, &rootfs.initramfs.path);
    match told {
        Told::Words => output::line(format!("first root {} is made", path.display())),
        Told::Json => output::json(&json!({"kernel": name, "initramfs": path})),
        Told::Nothing => Ok(()),
    }
}

/// Each machine makes its own; a filesystem that cannot hold one shows now.
fn try_blank(home: &Path) -> Result<(), BlankError> {
    let path = home.join(format!(".try-{}", std::process::id()));
    let made = blank::create(&path, MachineSpec::new("").disk_bytes, [0; 16]);
    // It may not have come to that.
    std::fs::remove_file(&path).ok();
    made
}
