//! Checkpoints the QEMU process.

use std::path::{Path, PathBuf};

use mimeo_checkpoint::{CheckpointError, DumpRequest};
use serde::{Deserialize, Serialize};

use super::arguments::{LINK_FD, QMP_FD};
use crate::{CheckpointHook, OperationError};

/// The files that a checkpointed QEMU has open, stored beside the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QemuFiles {
    /// The file of the guest's memory.
    pub(super) memory: PathBuf,
    /// The files of the disks, in order.
    pub(super) disks: Vec<PathBuf>,
}

/// The name of the file that holds [`QemuFiles`].
pub(super) const FILES_NAME: &str = "qemu.json";

/// Descriptors that are passed to every restored process: the standard streams, the link and QMP.
const INHERITED: [i32; 5] = [0, 1, 2, LINK_FD, QMP_FD];

pub(super) async fn checkpoint(
    pid: u32,
    files: QemuFiles,
    dir: &Path,
    hook: CheckpointHook,
) -> Result<(), OperationError> {
    let dir = dir.to_owned();
    // All on one thread: ptrace requests must come from the thread that traces.
    let dumping = tokio::task::spawn_blocking(move || {
        let request = DumpRequest { inherited: &INHERITED, external: Some(&files.memory), dir: &dir };
        mimeo_checkpoint::checkpoint_process(pid, request, hook)?;
        let path = dir.join(FILES_NAME);
        let text = serde_json::to_vec(&files).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(|source| CheckpointError::File { path, source })
    });
    Ok(dumping.await.map_err(|_| OperationError::Gone)??)
}
