//! The store's folder and its locks.
//!
//! ```text
//! lock                     shared by pulls and imports, exclusive for removal of content
//! blobs/sha256/<hex>       manifests, configurations and layers, as received
//! blobs/sha256/<hex>.partial   a layer whose download was interrupted
//! rootfs/<key>.ext4        filesystems, by the digests of their layers
//! images/<hex>.json        one record per image
//! names/<hex>.json         one record per name, by the digest of the name
//! locks/<hex>              one per content being created
//! tmp/                     files being written
//! ```
//! Each file is created atomically by a rename, names last, so a crash leaves no incomplete image. The next prune
//! removes leftovers in `tmp`, `locks` and partial blobs.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::commit::FileError;
use crate::digest::Digest;

/// The images of this host. Cheap to clone; any number of processes may use one folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the image store at {} cannot be opened", root.display())]
pub struct OpenError {
    /// The store's folder.
    pub root: PathBuf,
    /// Why.
    #[source]
    pub source: FileError,
}

const FOLDERS: [&str; 6] = ["blobs/sha256", "rootfs", "images", "names", "locks", "tmp"];

/// A lock, released when dropped, or by the kernel when the process exits.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// Opens the store in `root`. Creates it if it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let fail = |source| OpenError { root: root.to_owned(), source };
        let root = std::path::absolute(root).map_err(FileError::at("find", root)).map_err(fail)?;
        for folder in FOLDERS {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(FileError::at("create", &path)).map_err(fail)?;
        }
        Ok(Self { root })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn partial_blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(format!("{}.partial", digest.hex()))
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn rootfs(&self, key: Digest) -> PathBuf {
        self.rootfs_folder().join(format!("{}.ext4", key.hex()))
    }

    pub(crate) fn rootfs_folder(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// Taken while content is added, so that it is not removed before a record references it. Blocks.
    pub(crate) fn lock_shared(&self) -> Result<Lock, FileError> {
        let path = self.root.join("lock");
        let file = open_lock(&path)?;
        file.lock_shared().map_err(FileError::at("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Taken while content is removed. None while another process adds content.
    pub(crate) fn try_lock_exclusive(&self) -> Result<Option<Lock>, FileError> {
        let path = self.root.join("lock");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(FileError::at("lock", &path)(error)),
        }
    }

    /// Serialises processes that create the content with this digest. Blocks.
    pub(crate) fn lock_content(&self, digest: Digest) -> Result<Lock, FileError> {
        let path = self.locks().join(digest.hex());
        let file = open_lock(&path)?;
        file.lock().map_err(FileError::at("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Serialises changes of the records, which are short. Blocks.
    pub(crate) fn lock_records(&self) -> Result<Lock, FileError> {
        let path = self.root.join("records.lock");
        let file = open_lock(&path)?;
        file.lock().map_err(FileError::at("lock", &path))?;
        Ok(Lock { _file: file })
    }
}

fn open_lock(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(FileError::at("open", path))
}
