//! Keeps QEMU's own process.

use std::path::{Path, PathBuf};

use mimeo_checkpoint::{CheckpointError, Wanted};
use serde::{Deserialize, Serialize};

use super::arguments::{LINK_FD, QMP_FD};
use crate::{Meanwhile, OperationError};

/// What is known of a process that was kept, beside the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The file that its guest's memory was.
    pub(super) memory: PathBuf,
    /// The files that its disks were, in their order.
    pub(super) disks: Vec<PathBuf>,
}

/// The file of that.
pub(super) const KEPT: &str = "qemu.json";

/// Descriptors that every process is given: the three of all programs, and ours.
const GIVEN: [i32; 5] = [0, 1, 2, LINK_FD, QMP_FD];

pub(super) async fn keep(
    pid: u32,
    kept: Kept,
    dir: &Path,
    meanwhile: Meanwhile,
) -> Result<(), OperationError> {
    let dir = dir.to_owned();
    // One thread does it all: only the thread that traces another may tell it what to do.
    let keeping = tokio::task::spawn_blocking(move || {
        let wanted = Wanted { given: &GIVEN, apart: Some(&kept.memory), dir: &dir };
        mimeo_checkpoint::take(pid, wanted, meanwhile)?;
        let path = dir.join(KEPT);
        let text = serde_json::to_vec(&kept).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(|source| CheckpointError::File { path, source })
    });
    Ok(keeping.await.map_err(|_| OperationError::Gone)??)
}
