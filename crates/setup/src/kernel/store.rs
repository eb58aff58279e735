//! `$MIMEO_HOME/kernels`: one writer at a time, each kernel committed by one
//! rename, the default named by a symbolic link that is replaced atomically.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::files::{FileError, IoContext as _, create_dir, rename_synced, sync_dir};

/// Prefix of directories that a crash may leave behind. The holder of the lock may delete them.
const STAGING: &str = ".staging-";
/// Prefix of kernels that could not be read: kept as evidence, never used.
const BROKEN: &str = ".broken-";
const DEFAULT: &str = "default";

/// The directory of all kernels.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

/// The same, locked for changes until it is dropped.
#[derive(Debug)]
pub(super) struct LockedStore {
    store: Store,
    _lock: File,
}

impl Store {
    pub(super) fn at(home: &Path) -> Self {
        Self { dir: home.join("kernels") }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn default_name(&self) -> Option<PathBuf> {
        fs::read_link(self.dir.join(DEFAULT)).ok()
    }

    /// Takes the lock. Calls `waiting` once if another process has it.
    pub(super) fn lock(self, waiting: impl FnOnce()) -> Result<LockedStore, FileError> {
        create_dir(&self.dir)?;
        let path = self.dir.join(".lock");
        let file = File::create(&path).at("create", &path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            waiting();
        }
        flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        let locked = LockedStore { store: self, _lock: file };
        locked.sweep()?;
        Ok(locked)
    }
}

impl LockedStore {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.store.dir.join(name)
    }

    /// Creates a directory to fill, which is deleted on drop unless it is committed.
    pub(super) fn stage(&self) -> Result<TempDir, FileError> {
        let dir = &self.store.dir;
        tempfile::Builder::new().prefix(STAGING).tempdir_in(dir).at("create a directory in", dir)
    }

    /// Renames a filled directory to its final name.
    pub(super) fn commit(&self, staged: TempDir, name: &str) -> Result<PathBuf, FileError> {
        make_readable(staged.path())?;
        sync_dir(staged.path())?;
        let to = self.path(name);
        rename_synced(staged.path(), &to)?;
        // The directory was renamed: there is nothing left to delete.
        let _moved = staged.keep();
        Ok(to)
    }

    /// Makes a kernel the default, which machines boot.
    pub(super) fn set_default(&self, name: &str) -> Result<(), FileError> {
        if self.store.default_name().is_some_and(|current| current == Path::new(name)) {
            return Ok(());
        }
        let link = self.stage()?;
        let new = link.path().join(DEFAULT);
        symlink(name, &new).at("create", &new)?;
        rename_synced(&new, &self.path(DEFAULT))
    }

    /// Moves an unusable directory aside and returns its new path.
    pub(super) fn set_aside(&self, name: &str) -> Result<PathBuf, FileError> {
        let from = self.path(name);
        let aside = tempfile::Builder::new().prefix(&format!("{BROKEN}{name}-")).tempdir_in(&self.store.dir);
        let aside = aside.at("create a directory beside", &from)?.keep();
        rename_synced(&from, &aside)?;
        Ok(aside)
    }

    fn sweep(&self) -> Result<(), FileError> {
        let dir = &self.store.dir;
        for entry in fs::read_dir(dir).at("list", dir)? {
            let path = entry.at("list", dir)?.path();
            if has_prefix(&path, STAGING) {
                fs::remove_dir_all(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

/// Temporary directories are private, but a kernel is not a secret.
fn make_readable(dir: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).at("set the mode of", dir)
}
