//! A snapshot in the making: a directory that nobody sees until one rename.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::manifest::{FileEntry, Manifest};
use super::{Snapshots, StoreError};
use crate::id::SnapshotId;
use crate::machine::remove_dir;

/// What the directory of a snapshot in the making begins with.
pub(super) const UNFINISHED: &str = ".new-";
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
    pub(crate) fn begin(store: &Snapshots) -> Result<Self, StoreError> {
        let id = SnapshotId::random();
        let parent = store.home().snapshots();
        let dir = parent.join(format!("{UNFINISHED}{}", id.short()));
        let io = |step, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { step, path, source }
        };
        // No sweep takes it for abandoned before it is locked.
        let _all = store.lock()?;
        fs::create_dir(&dir).map_err(io("make", &dir))?;
        let lock = File::create(dir.join(LOCK)).map_err(io("make", &dir))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| io("lock", &dir)(errno.into()))?;
        Ok(Self { id, dir, store: store.clone(), _lock: lock, committed: false })
    }

    /// Gives it one more name for a file that never changes again.
    pub(crate) fn link(&self, from: &Path, name: &str) -> Result<(), StoreError> {
        fs::hard_link(from, self.dir.join(name)).map_err(|source| StoreError::Io {
            step: "link",
            path: from.to_owned(),
            source,
        })
    }

    /// A file that is complete: on the disk, and with its digest, when it is to be kept.
    pub(crate) fn file(&self, name: &str, keep: bool) -> Result<FileEntry, StoreError> {
        let path = self.dir.join(name);
        let io = |step| {
            let path = path.clone();
            move |source| StoreError::Io { step, path, source }
        };
        let bytes = fs::metadata(&path).map_err(io("examine"))?.len();
        let blake3 = if keep {
            File::open(&path).and_then(|file| file.sync_all()).map_err(io("sync"))?;
            Some(mimeo_pager::digest(&path, None).map_err(mimeo_pager::PagerError::from)?)
        } else {
            None
        };
        Ok(FileEntry { name: name.to_owned(), bytes, blake3 })
    }

    /// Makes it one of all, in one step.
    pub(crate) fn commit(mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let dir = self.store.dir(&self.id);
        let _all = self.store.lock()?;
        if let Some(tag) = &manifest.tag {
            self.store.check_tag(tag)?;
        }
        if let Some(parent) = manifest.parent.as_ref().filter(|parent| !self.store.dir(parent).exists()) {
            return Err(StoreError::Orphan { parent: parent.short().to_owned() });
        }
        let io = |step, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { step, path, source }
        };
        manifest.store(&self.dir).map_err(io("write the manifest in", &self.dir))?;
        fs::remove_file(self.dir.join(LOCK)).map_err(io("unlock", &self.dir))?;
        fs::rename(&self.dir, &dir).map_err(io("rename", &self.dir))?;
        self.committed = true;
        let parent = self.store.home().snapshots();
        File::open(&parent).and_then(|parent| parent.sync_all()).map_err(io("sync", &parent))?;
        point(&self.store, manifest);
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
fn point(store: &Snapshots, manifest: &Manifest) {
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
