//! Starts a QEMU that goes on from where another stood.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_checkpoint::{Checkpoint, CheckpointError};
use tokio::time::timeout;

use super::arguments::{From, arguments};
use super::confine;
use super::instance::QemuInstance;
use super::keep::{KEPT, Kept};
use super::launch::{Started, start};
use super::memory::Backing;
use super::qmp::Qmp;
use crate::{DiskFormat, Instance, KeptProcess, LaunchSpec, OperationError, RestoreError};

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
    // Some tens of milliseconds at most, unless it does not go on.
    match timeout(PATIENCE, furnish(&instance, spec)).await {
        Ok(Ok(())) => Ok(instance),
        Ok(Err(error)) => Err(instance.explained(error).await),
        Err(_) => {
            instance.kill().await;
            Err(RestoreError::Ended { how: "it does not answer".to_owned() })
        }
    }
}

/// How long it may take to answer, on a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gives it what is this machine's own, and has it answer.
async fn furnish(instance: &QemuInstance, spec: &LaunchSpec) -> Result<(), OperationError> {
    for disk in spec.disks.iter().filter(|disk| !disk.read_only && disk.format == DiskFormat::Raw) {
        instance.resize(disk).await?;
    }
    match &spec.network {
        Some(network) => instance.plug(network).await,
        None => instance.version().await.map(drop),
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
    match (own.and_then(Path::parent), path.file_name(), spec.directory()) {
        (Some(there), Some(name), Some(here)) if path.parent() == Some(there) => here.join(name),
        _ => path.to_owned(),
    }
}
