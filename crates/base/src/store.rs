//! The store's directory.
//!
//! ```text
//! .lock              held while a base is added or removed
//! .new-RANDOM/       a base that is being added or removed; locked while its process lives
//! NAME/disk          the disk: raw, sparse, read-only
//! NAME/base.json     the manifest
//! ```
//! A base appears and disappears by one rename. What processes left that were killed meanwhile is removed by the next
//! one that adds or removes a base.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use crate::file_error::FileError;
use crate::manifest::{Manifest, VERSION};
use crate::name::BaseName;

const LOCK: &str = ".lock";
const UNFINISHED: &str = ".new-";
pub(crate) const DISK: &str = "disk";
pub(crate) const MANIFEST: &str = "base.json";

/// The bases of this host. Cheap to clone; any number of processes may use one directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Why bases cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such base.
    #[error("no base has the name {name}: `mimeo base ls` lists all")]
    NotFound {
        /// The name.
        name: BaseName,
    },
    /// The manifest cannot be parsed.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The manifest's path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A later version of mimeo has made the base.
    #[error("{} has version {version}, but this mimeo knows versions up to {VERSION}: use a newer one", path.display())]
    NewerVersion {
        /// The manifest's path.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// An operation on a file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The lock of the store. While it is held, no base appears or disappears. Released when dropped, or by the kernel when
/// the process exits.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// A directory of a base that is not complete, or not any more. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    dir: TempDir,
    /// Locked as long as this process lives, so that no other one sweeps the directory.
    _lock: File,
}

impl Draft {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory alone: it was renamed.
    pub(crate) fn disable_cleanup(mut self) {
        self.dir.disable_cleanup(true);
    }
}

impl Store {
    /// Opens the store in a directory. Creates it, accessible only by its owner, if it does not exist.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn at(root: &Path) -> Result<Self, FileError> {
        let root = std::path::absolute(root).map_err(FileError::at("find", root))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(FileError::at("create", &root))?;
        Ok(Self { root })
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A base's directory.
    #[must_use]
    pub fn dir(&self, name: &BaseName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// A base's disk: a raw file that never changes.
    #[must_use]
    pub fn disk(&self, name: &BaseName) -> PathBuf {
        self.dir(name).join(DISK)
    }

    /// The bytes of the host's disk that a base occupies; 0 if it is gone.
    #[must_use]
    pub fn disk_usage(&self, name: &BaseName) -> u64 {
        fs::metadata(self.disk(name)).map_or(0, |meta| meta.blocks() * 512)
    }

    /// Reads a base.
    ///
    /// # Errors
    /// If it does not exist, or its manifest cannot be read.
    pub fn read(&self, name: &BaseName) -> Result<Manifest, StoreError> {
        self.find(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    /// Reads a base; `None` if it does not exist.
    ///
    /// # Errors
    /// If its manifest cannot be read.
    pub fn find(&self, name: &BaseName) -> Result<Option<Manifest>, StoreError> {
        let path = self.dir(name).join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(FileError::at("read", &path))?,
        };
        parse(&path, &bytes).map(Some)
    }

    /// Lists all bases by name. One whose manifest cannot be read is logged and left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Manifest>, StoreError> {
        let mut found = Vec::new();
        for name in self.names()? {
            match self.find(&name) {
                Ok(base) => found.extend(base),
                Err(error) => {
                    tracing::warn!(component = "bases", base = %name, "cannot list a base: {error}")
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn names(&self) -> Result<Vec<BaseName>, FileError> {
        Ok(self.entries()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn entries(&self) -> Result<Vec<String>, FileError> {
        let entries = fs::read_dir(&self.root).map_err(FileError::at("read", &self.root))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
            .map_err(FileError::at("read", &self.root))
    }

    /// Locks the store. What refers to a base, such as a new machine, holds this lock from reading the base until the
    /// reference can be found. Blocks.
    ///
    /// # Errors
    /// If the lock's file cannot be opened.
    pub fn lock(&self) -> Result<StoreLock, FileError> {
        let path = self.root.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(FileError::at("open", &path))?;
        file.lock().map_err(FileError::at("lock", &path))?;
        Ok(StoreLock { _file: file })
    }

    /// Makes a directory for a base that is being added. Removes those of dead processes.
    pub(crate) fn create_draft(&self, _lock: &StoreLock) -> Result<Draft, FileError> {
        self.sweep();
        let dir = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.root);
        let dir = dir.map_err(FileError::at("create a directory in", &self.root))?;
        let lock = File::open(dir.path()).map_err(FileError::at("open", dir.path()))?;
        lock.lock().map_err(FileError::at("lock", dir.path()))?;
        Ok(Draft { dir, _lock: lock })
    }

    /// Removes the directories of dead processes. The caller holds the lock.
    fn sweep(&self) {
        let entries = self.entries().unwrap_or_default();
        for path in
            entries.iter().filter(|name| name.starts_with(UNFINISHED)).map(|name| self.root.join(name))
        {
            let is_abandoned = File::open(&path).is_ok_and(|dir| dir.try_lock().is_ok());
            if !is_abandoned {
                continue;
            }
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(component = "bases", path = %path.display(), "cannot remove a leftover: {error}");
            }
        }
    }

    /// Syncs the store's directory, so that a rename survives a crash of the host.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        File::open(&self.root).and_then(|dir| dir.sync_all()).map_err(FileError::at("sync", &self.root))
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, StoreError> {
    /// What all versions have.
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    let damaged = |source| StoreError::Damaged { path: path.to_owned(), source };
    let Header { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > VERSION {
        return Err(StoreError::NewerVersion { path: path.to_owned(), version });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}
