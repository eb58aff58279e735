//! Keeps QEMU's own process.

use std::path::{Path, PathBuf};

use mimeo_checkpoint::{CheckpointError, Wanted};
use serde::{Deserialize, Serialize};

use super::arguments::{LINK_FD, QMP_FD};
use crate::{Meanwhile, OperationError};

/// What is known of a process that was kept, beside the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QemuFiles {
    /// The file that its guest's memory was.
    pub(super) memory: PathBuf,
    /// The files that its disks were, in their order.
    pub(super) disks: Vec<PathBuf>,
}

/// The file of that.
pub(super) const FILES_NAME: &str = "qemu.json";

/// Descriptors that every process is given: the three of all programs, and ours.
const INHERITED: [i32; 5] = [0, 1, 2, LINK_FD, QMP_FD];

pub(super) async fn checkpoint(
    pid: u32,
    files: QemuFiles,
    dir: &Path,
    meanwhile: Meanwhile,
) -> Result<(), OperationError> {
    let dir = dir.to_owned();
    // One thread does it all: only the thread that traces another may tell it what to do.
    let dumping = tokio::task::spawn_blocking(move || {
        let request = Wanted { given: &INHERITED, apart: Some(&files.memory), dir: &dir };
        mimeo_checkpoint::take(pid, request, meanwhile)?;
        let path = dir.join(FILES_NAME);
        let text = serde_json::to_vec(&files).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(|source| CheckpointError::File { path, source })
    });
    Ok(dumping.await.map_err(|_| OperationError::Gone)??)
}
