//! One manager at a time uses a home directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The lock's file in the home directory.
const FILE: &str = "manager.lock";

/// The lock of a home directory. The kernel releases it however the manager ends.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

/// Why a manager cannot use a home directory.
#[derive(Debug, thiserror::Error)]
pub enum HomeLockError {
    /// Another manager uses it.
    #[error("another manager uses {}: stop that one, or set MIMEO_HOME to another directory", home.display())]
    Taken {
        /// The home directory.
        home: PathBuf,
    },
    /// The lock's file cannot be used.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl HomeLock {
    /// Takes the lock.
    pub(crate) fn take(home: &Path) -> Result<Self, HomeLockError> {
        let path = home.join(FILE);
        let error = |source| HomeLockError::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(HomeLockError::Taken { home: home.to_owned() }),
            Err(errno) => Err(error(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_manager() {
        let home = tempfile::tempdir().expect("a directory");
        let first = HomeLock::take(home.path()).expect("the lock");
        assert!(matches!(HomeLock::take(home.path()), Err(HomeLockError::Taken { .. })));
        drop(first);
        HomeLock::take(home.path()).expect("the lock again");
    }
}
