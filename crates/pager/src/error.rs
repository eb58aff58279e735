//! Errors of reading guest memory and of writing memory files.

use std::io;
use std::path::{Path, PathBuf};

/// Why a guest's memory cannot be read or captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagerError {
    /// The process has exited.
    #[error("process {pid} has exited")]
    Exited {
        /// Its PID.
        pid: u32,
    },
    /// A region is empty, not page-aligned, or overlaps another in guest memory; or the list of regions is
    /// empty.
    #[error("invalid guest memory region: {length} bytes at offset {offset:#x}")]
    Region {
        /// Its offset in guest memory, in bytes.
        offset: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// Part of a region is not mapped in the process, or it is a shared mapping where a private one was
    /// expected.
    #[error("process {pid} has no matching memory mapping at {address:#x}")]
    Unmapped {
        /// Its PID.
        pid: u32,
        /// The address of the region in that process.
        address: u64,
    },
    /// The process's page table cannot be read.
    #[error("cannot list the pages of process {pid}")]
    List {
        /// Its PID.
        pid: u32,
        /// The cause.
        source: io::Error,
    },
    /// The process's memory cannot be read.
    #[error("cannot read the memory of process {pid} at {address:#x}")]
    Read {
        /// Its PID.
        pid: u32,
        /// The address in that process.
        address: u64,
        /// The cause.
        source: io::Error,
    },
    /// The memory file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a memory file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The filesystem is full (ENOSPC), or the quota or the file size limit is reached.
    #[error("no space left for {}", path.display())]
    NoSpace {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be created or written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl FileError {
    /// The error for a file that cannot be read.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { path, source }
            }
            _ => Self::Write { path, source },
        }
    }
}
