//! One manager at a time uses a home directory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::file_lock;

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
    pub(crate) async fn take(home: &Path) -> Result<Self, HomeLockError> {
        let path = home.join(FILE);
        match file_lock::lock(&path).await {
            Ok(Some(file)) => Ok(Self { _file: file }),
            Ok(None) => Err(HomeLockError::Taken { home: home.to_owned() }),
            Err(source) => Err(HomeLockError::Io { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_home_has_one_manager() {
        let home = tempfile::tempdir().expect("a directory");
        let first = HomeLock::take(home.path()).await.expect("the lock");
        assert!(matches!(HomeLock::take(home.path()).await, Err(HomeLockError::Taken { .. })));
        drop(first);
        HomeLock::take(home.path()).await.expect("the lock again");
    }
}
