//! Restores a QEMU process from a checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_checkpoint::{Checkpoint, CheckpointError};
use tokio::time::timeout;

use super::arguments::{StartMode, arguments};
use super::checkpoint::{FILES_NAME, QemuFiles};
use super::instance::QemuInstance;
use super::launch::{SpawnedQemu, spawn_qemu};
use super::memory::Backing;
use super::qmp::Qmp;
use super::seccomp;
use crate::{CheckpointedProcess, DiskFormat, Instance, LaunchSpec, OperationError, RestoreError};

/// Starts a process from the checkpoint, with this machine's disks, channels and network in place of the
/// checkpointed ones.
pub(super) async fn restore_process(
    spec: &LaunchSpec,
    checkpointed: &CheckpointedProcess,
) -> Result<QemuInstance, RestoreError> {
    let checkpoint = Checkpoint::open(&checkpointed.dir)?;
    let old_files = read_files(&checkpointed.dir)?;
    let descriptors =
        checkpoint.descriptors(|path| relocate(path, &old_files, spec, &checkpointed.memory))?;
    let mut command = std::process::Command::new(checkpoint.program());
    // Only for the process list: the restored program does not read its arguments.
    command.args(arguments(spec, StartMode::Saved(&checkpointed.memory)));
    mimeo_checkpoint::trace_me(&mut command);
    let SpawnedQemu { child, link, qmp } = spawn_qemu(command, spec, descriptors)?;
    let pid = child.id().ok_or(OperationError::Gone)?;
    let backing = Backing::File(checkpointed.memory.clone());
    // The restored QEMU is in an established QMP session, and sends no greeting.
    let mut instance = QemuInstance::new(child, link, Qmp::attach(qmp), spec, backing);
    checkpoint.restore(pid, Some(&checkpointed.memory), &seccomp::filters()?)?;
    // This takes some tens of milliseconds at most, unless QEMU hangs.
    match timeout(RESTORE_TIMEOUT, adapt_to_machine(&instance, spec)).await {
        Ok(Ok(())) => Ok(instance),
        Ok(Err(error)) => Err(instance.restore_error(error).await),
        Err(_) => {
            instance.kill().await;
            Err(RestoreError::Ended { how: "the restored QEMU does not answer".to_owned() })
        }
    }
}

/// Timeout for the first answers, on a very busy host.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Applies this machine's disk sizes and network, and makes sure that QEMU answers.
async fn adapt_to_machine(instance: &QemuInstance, spec: &LaunchSpec) -> Result<(), OperationError> {
    for disk in spec.disks.iter().filter(|disk| !disk.read_only && disk.format == DiskFormat::Raw) {
        instance.resize_disk(disk).await?;
    }
    match &spec.network {
        Some(network) => instance.connect_network(network).await,
        None => instance.version().await.map(drop),
    }
}

fn read_files(dir: &Path) -> Result<QemuFiles, CheckpointError> {
    let path = dir.join(FILES_NAME);
    let text = std::fs::read(&path).map_err(|source| CheckpointError::File { path, source })?;
    serde_json::from_slice(&text).map_err(|error| CheckpointError::Incompatible { reason: error.to_string() })
}

/// The path in this machine for a file of the checkpointed one.
fn relocate(path: &Path, old_files: &QemuFiles, spec: &LaunchSpec, memory: &Path) -> PathBuf {
    if path == old_files.memory {
        return memory.to_owned();
    }
    let disks = old_files.disks.iter().zip(&spec.disks);
    if let Some((_, disk)) = disks.clone().find(|(old, _)| *old == path) {
        return disk.path.clone();
    }
    // A layer below a disk's top one, which is in the same directory.
    let neighbours = disks.filter(|(old, _)| old.parent() == path.parent()).map(|(_, disk)| disk);
    let disk = neighbours.min_by_key(|disk| disk.read_only);
    match (disk.and_then(|disk| disk.path.parent()), path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}
