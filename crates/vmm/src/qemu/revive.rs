//! Starts a QEMU that goes on from where another stood.

use std::path::{Path, PathBuf};

use mimeo_checkpoint::{Checkpoint, CheckpointError};

use super::arguments::{From, arguments, directory};
use super::confine;
use super::instance::QemuInstance;
use super::keep::{KEPT, Kept};
use super::launch::{Started, start};
use super::memory::Backing;
use super::qmp::Qmp;
use crate::{KeptProcess, LaunchSpec, OperationError, RestoreError};

/// Starts a process as the one that was kept, with this machine's disks,
/// channels and network in the place of that one's.
pub(super) async fn revive(spec: &LaunchSpec, kept: &KeptProcess) -> Result<QemuInstance, RestoreError> {
    let checkpoint = Checkpoint::open(&kept.dir)?;
    let before = read(&kept.dir)?;
    let given = checkpoint.descriptors(|path| place(path, &before, spec, &kept.memory))?;
    let mut command = std::process::Command::new(checkpoint.program());
    // For who looks at the list of processes: the program does not read them.
    command.args(arguments(spec, From::Saved(&kept.memory)));
    mimeo_checkpoint::trace_me(&mut command);
    let Started { child, link, qmp } = start(command, spec, given)?;
    let pid = child.id().ok_or(OperationError::Gone)?;
    let backing = Backing::File(kept.memory.clone());
    // Its monitor is in the middle of a session, and knows no beginning.
    let mut instance = QemuInstance::new(child, link, Qmp::resume(qmp), spec, backing);
    checkpoint.revive(pid, Some(&kept.memory), &confine::filters()?)?;
    let plugged = match &spec.network {
        Some(network) => instance.plug(network).await,
        None => Ok(()),
    };
    match plugged {
        Ok(()) => Ok(instance),
        Err(error) => Err(instance.explained(error).await),
    }
}

fn read(dir: &Path) -> Result<Kept, CheckpointError> {
    let path = dir.join(KEPT);
    let text = std::fs::read(&path).map_err(|source| CheckpointError::File { path, source })?;
    serde_json::from_slice(&text).map_err(|error| CheckpointError::Foreign { what: error.to_string() })
}

/// Where a file of that machine is in this one.
fn place(path: &Path, before: &Kept, spec: &LaunchSpec, memory: &Path) -> PathBuf {
    if path == before.memory {
        return memory.to_owned();
    }
    let disks = before.disks.iter().zip(&spec.disks);
    if let Some((_, disk)) = disks.clone().find(|(before, _)| *before == path) {
        return disk.path.clone();
    }
    // Layers below the disk that is the machine's own.
    let own = disks.clone().find(|(_, disk)| !disk.read_only).map(|(before, _)| before.as_path());
    match (own.and_then(Path::parent), path.file_name(), directory(spec)) {
        (Some(there), Some(name), Some(here)) if path.parent() == Some(there) => here.join(name),
        _ => path.to_owned(),
    }
}
