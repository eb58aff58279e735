//! Why memory cannot be looked at, copied or put together.

use std::io;
use std::path::{Path, PathBuf};

/// Why a guest's memory cannot be looked at or copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagerError {
    /// The process has ended, or ended meanwhile.
    #[error("process {pid} has ended")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// A region is empty, not page aligned, or shares guest memory with another; or there is none.
    #[error("{length} bytes at {offset:#x} of a guest's memory are no region")]
    Region {
        /// Where it begins in the guest's memory, in bytes.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// Not all of a region is mapped in the process, or it is shared where private memory was named.
    #[error("process {pid} has no such memory at {address:#x}")]
    Unmapped {
        /// The process.
        pid: u32,
        /// Where the region begins in that process.
        address: u64,
    },
    /// The process's page tables cannot be read.
    #[error("the pages of process {pid} cannot be listed")]
    List {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The process's memory cannot be read.
    #[error("the memory of process {pid} cannot be read at {address:#x}")]
    Read {
        /// The process.
        pid: u32,
        /// Where, in that process.
        address: u64,
        /// Why.
        source: io::Error,
    },
    /// The file of a copy failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a file of memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The filesystem, the quota or the limit on a file's size has no room for it.
    #[error("there is no room for {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made or written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// Of a file that could not be read.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path, source }
            }
            _ => Self::Write { path, source },
        }
    }
}
