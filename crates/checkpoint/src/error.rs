//! Errors of a dump or a restore.

use std::io;
use std::path::{Path, PathBuf};

/// Why a process could not be checkpointed or restored.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The process has state that cannot be checkpointed or restored.
    #[error("cannot checkpoint or restore the process: {reason}")]
    Unsupported {
        /// The state.
        reason: String,
    },
    /// The checkpoint was written before a reboot, by another version, or from another program.
    #[error("cannot use the checkpoint: {reason}")]
    Incompatible {
        /// What differs.
        reason: String,
    },
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file in /proc lacks a line, or has a malformed one.
    #[error("cannot parse {}: {line}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The malformed line, or which one is missing.
        line: String,
    },
    /// A system call in the process failed.
    #[error("system call {number} failed in the traced process")]
    Call {
        /// Its number.
        number: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The process exited unexpectedly.
    #[error("the process exited unexpectedly")]
    Ended,
}

pub(crate) fn step(step: &'static str) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Step { step, source }
}

pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::File { path: path.to_owned(), source }
}

pub(crate) fn unsupported(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Unsupported { reason: reason.into() }
}

pub(crate) fn incompatible(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Incompatible { reason: reason.into() }
}
