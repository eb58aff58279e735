//! The files and directories that a guest has open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// An open file or directory.
#[derive(Debug)]
pub(super) enum Handle {
    /// A regular file.
    File(OwnedFd),
    /// A directory. Reads move its offset, so the mutex serializes them.
    Directory(Mutex<OwnedFd>),
    /// The root of a share that consists of a single file.
    SingleFile,
}

impl Handle {
    /// The descriptor of a regular file.
    pub(super) fn file(&self) -> Result<&OwnedFd, Errno> {
        match self {
            Self::File(fd) => Ok(fd),
            Self::Directory(_) | Self::SingleFile => Err(Errno::BADF),
        }
    }
}

#[derive(Debug)]
pub(super) struct Handles {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Handle>>,
    /// The last handle number; numbers are never reused.
    last: u64,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, table: Mutex::default() }
    }

    /// Adds an open file and returns its handle number for the guest.
    pub(super) fn insert(&self, handle: Handle) -> Result<u64, Errno> {
        let mut table = self.table();
        if table.open.len() >= self.limit {
            return Err(Errno::NFILE);
        }
        table.last += 1;
        let number = table.last;
        table.open.insert(number, Arc::new(handle));
        Ok(number)
    }

    /// The open file with that handle number.
    pub(super) fn get(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        self.table().open.get(&number).cloned().ok_or(Errno::BADF)
    }

    /// Removes the file and returns it. It is closed once all requests that use it are done.
    pub(super) fn close(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        self.table().open.remove(&number).ok_or(Errno::BADF)
    }

    /// Closes everything.
    pub(super) fn close_all(&self) {
        let open = std::mem::take(&mut self.table().open);
        drop(open);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics with the lock held; even then the table would be consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
