//! Why a process could not be kept, or could not begin.

use std::io;
use std::path::{Path, PathBuf};

/// Why a process could not be kept, or could not begin as one that was.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It has something that cannot be kept.
    #[error("the process cannot be kept: {what}")]
    Unsupported {
        /// What it has.
        what: String,
    },
    /// It was kept on another start of the host, or of another program.
    #[error("the kept process does not belong here: {what}")]
    Foreign {
        /// What differs.
        what: String,
    },
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of /proc has a line that is missing, or has a form that is not known.
    #[error("cannot parse {}: {line}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, or which one is missing.
        line: String,
    },
    /// A system call failed in the process.
    #[error("system call {number} failed in the process")]
    Call {
        /// Its number.
        number: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process ended meanwhile.
    #[error("the process ended")]
    Ended,
}

pub(crate) fn step(step: &'static str) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Step { step, source }
}

pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::File { path: path.to_owned(), source }
}

pub(crate) fn unsupported(what: impl Into<String>) -> CheckpointError {
    CheckpointError::Unsupported { what: what.into() }
}

pub(crate) fn foreign(what: impl Into<String>) -> CheckpointError {
    CheckpointError::Foreign { what: what.into() }
}
