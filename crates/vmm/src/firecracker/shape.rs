//! What a saved state depends on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::{GUEST_CID, GUEST_PORT};
use crate::{LaunchSpec, program};

/// The text of a spec: all that a state is bound to but for the names of files,
/// which are the same in all machines. The format is one that Firecracker
/// raises whenever older states cannot be loaded any more.
pub(super) fn shape(spec: &LaunchSpec, format: &str) -> String {
    let drives: Vec<_> = spec.disks.iter().map(|disk| if disk.read_only { "ro" } else { "rw" }).collect();
    format!(
        "firecracker state {format} transport mmio cpus {} smt off memory {} MiB pages host drives {} card {} \
         vsock {GUEST_CID}:{GUEST_PORT} entropy on balloon 0 MiB deflate-on-oom",
        spec.cpus,
        spec.memory_mib,
        drives.join(","),
        spec.network.is_some(),
    )
}

/// The format of states that a program writes and reads, asked once for each
/// program that has been seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Format(Arc<Mutex<Option<(String, String)>>>);

impl Format {
    /// As `firecracker --snapshot-version` says it; `unknown` where there is none.
    pub(super) fn of(&self, firecracker: Option<PathBuf>) -> String {
        let Some((path, identity)) =
            firecracker.and_then(|path| program::identity(&path).map(|identity| (path, identity)))
        else {
            return "unknown".to_owned();
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, format)) if *of == identity => format.clone(),
            _ => {
                let format = ask(&path).unwrap_or_else(|| "unknown".to_owned());
                *known = Some((identity, format.clone()));
                format
            }
        }
    }
}

fn ask(firecracker: &Path) -> Option<String> {
    let output = Command::new(firecracker)
        .arg("--snapshot-version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find(|line| line.starts_with('v')).map(|line| line.trim().to_owned())
}
