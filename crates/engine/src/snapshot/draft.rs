//! A snapshot in the making: a directory that nobody sees until one rename.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::manifest::{FileEntry, Manifest};
use super::{Snapshots, StoreError};
use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::machine::remove_dir;

/// What the directory of a snapshot in the making begins with.
pub(super) const DRAFT_PREFIX: &str = ".new-";
/// Locked by its maker; the kernel lets go of it however that ends.
const LOCK: &str = "lock";

/// A snapshot in the making. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: SnapshotId,
    pub(crate) dir: PathBuf,
    store: Snapshots,
    _lock: File,
    committed: bool,
}

impl Draft {
    pub(crate) fn create(store: &Snapshots) -> Result<Self, StoreError> {
        let id = SnapshotId::random();
        let parent = store.home().snapshots();
        let dir = parent.join(format!("{DRAFT_PREFIX}{}", id.short()));
        // No sweep takes it for abandoned before it is locked.
        let _store_lock = store.lock()?;
        fs::create_dir(&dir).at("make", &dir)?;
        let lock = File::create(dir.join(LOCK)).at("make", &dir)?;
        flock(&lock, FlockOperation::LockExclusive).at("lock", &dir)?;
        Ok(Self { id, dir, store: store.clone(), _lock: lock, committed: false })
    }

    /// Gives it one more name for a file that never changes again.
    pub(crate) fn link(&self, source: &Path, name: &str) -> Result<(), StoreError> {
        Ok(fs::hard_link(source, self.dir.join(name)).at("link", source)?)
    }

    /// A file that is complete: on the disk, and with its digest, when it is to be kept.
    pub(crate) fn file(&self, name: &str, is_durable: bool) -> Result<FileEntry, StoreError> {
        let path = self.dir.join(name);
        let bytes = fs::metadata(&path).at("examine", &path)?.len();
        let blake3 = if is_durable {
            File::open(&path).and_then(|file| file.sync_all()).at("sync", &path)?;
            Some(mimeo_pager::digest(&path, None).map_err(mimeo_pager::PagerError::from)?)
        } else {
            None
        };
        Ok(FileEntry { name: name.to_owned(), bytes, blake3 })
    }

    /// Makes it one of all, in one step.
    pub(crate) fn commit(mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let dir = self.store.dir(&self.id);
        let _store_lock = self.store.lock()?;
        if let Some(tag) = &manifest.tag {
            self.store.check_tag(tag)?;
        }
        if let Some(parent) = manifest.parent.as_ref().filter(|parent| !self.store.dir(parent).exists()) {
            return Err(StoreError::MissingParent { parent: parent.short().to_owned() });
        }
        manifest.store(&self.dir).at("write the manifest in", &self.dir)?;
        fs::remove_file(self.dir.join(LOCK)).at("unlock", &self.dir)?;
        fs::rename(&self.dir, &dir).at("rename", &self.dir)?;
        self.committed = true;
        let parent = self.store.home().snapshots();
        File::open(&parent).and_then(|parent| parent.sync_all()).at("sync", &parent)?;
        link_tag(&self.store, manifest);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is swept by the next command.
            remove_dir(&self.dir).ok();
        }
    }
}

/// A tag's pointer serves only to name a damaged snapshot: its loss costs nothing.
fn link_tag(store: &Snapshots, manifest: &Manifest) {
    let Some(tag) = &manifest.tag else { return };
    fs::create_dir_all(store.tags()).ok();
    let link = store.tags().join(tag.as_str());
    fs::remove_file(&link).ok();
    std::os::unix::fs::symlink(manifest.id.short(), link).ok();
}

/// Whether nobody works on a draft any more. True only under the lock of all:
/// who makes or commits one holds that.
pub(super) fn is_abandoned(dir: &Path) -> bool {
    match File::open(dir.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
