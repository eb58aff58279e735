//! The files and directories that a guest has open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// What is open.
#[derive(Debug)]
pub(super) enum Handle {
    /// A regular file.
    File(OwnedFd),
    /// A directory. Reading it moves its offset, so one at a time.
    Directory(Mutex<OwnedFd>),
    /// The listing of a directory that shows one file only.
    SingleFile,
}

impl Handle {
    /// The regular file.
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
    /// Numbers are never given twice.
    last: u64,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, table: Mutex::default() }
    }

    /// Keeps it open; the number is the guest's.
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

    /// What was opened under that number.
    pub(super) fn get(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        self.table().open.get(&number).cloned().ok_or(Errno::BADF)
    }

    /// Closes it, once nobody works with it any more.
    pub(super) fn close(&self, number: u64) -> Result<(), Errno> {
        let handle = self.table().open.remove(&number);
        handle.map(drop).ok_or(Errno::BADF)
    }

    /// Closes everything.
    pub(super) fn close_all(&self) {
        let open = std::mem::take(&mut self.table().open);
        drop(open);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock; if it did, the table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
