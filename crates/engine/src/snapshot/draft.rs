//! A snapshot under construction: a hidden directory until one rename commits it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mimeo_image::disk_copy;
use rustix::fs::{FlockOperation, flock};

use super::manifest::{FileEntry, Manifest};
use super::{Snapshots, StoreError};
use crate::disk_layers::{layer_file_name, link_layers};
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{MachineDisk, remove_dir};

/// Prefix of the directory of a snapshot under construction.
pub(super) const DRAFT_PREFIX: &str = ".new-";
/// Locked by the process that makes the draft; the kernel releases the lock however that process ends.
const LOCK: &str = "lock";

/// A snapshot under construction. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: SnapshotId,
    pub(crate) dir: PathBuf,
    store: Snapshots,
    _lock: File,
    committed: bool,
}

impl Draft {
    /// Creates the draft of a snapshot with this id.
    pub(crate) fn create(store: &Snapshots, id: SnapshotId) -> Result<Self, StoreError> {
        let parent = store.home().snapshots();
        let dir = parent.join(format!("{DRAFT_PREFIX}{}", id.short()));
        // With the store's lock, no sweep takes the draft for abandoned before its own lock is held.
        let _store_lock = store.lock()?;
        // Of an attempt to make the same snapshot whose process was killed.
        if dir.exists() && is_abandoned(&dir) {
            remove_dir(&dir).at("remove", &dir)?;
        }
        fs::create_dir(&dir).at("make", &dir)?;
        let lock = File::create(dir.join(LOCK)).at("create the lock file in", &dir)?;
        flock(&lock, FlockOperation::LockExclusive).at("lock", &dir)?;
        Ok(Self { id, dir, store: store.clone(), _lock: lock, committed: false })
    }

    /// Hard-links the layers of a disk into the draft. They never change again.
    pub(crate) fn link_disk(&self, disk: &MachineDisk) -> Result<(), StoreError> {
        Ok(link_layers(&disk.dir, &self.disk_dir(disk)?, disk.layers)?)
    }

    /// Copies a disk without layers into the draft.
    pub(crate) fn copy_disk(&self, disk: &MachineDisk) -> Result<(), StoreError> {
        Ok(disk_copy::copy(&disk.layer(0), &self.disk_dir(disk)?.join(layer_file_name(0)))?)
    }

    /// Creates the directory of a disk's layers.
    fn disk_dir(&self, disk: &MachineDisk) -> Result<PathBuf, StoreError> {
        let dir = self.dir.join(&disk.saved_dir);
        fs::create_dir_all(&dir).at("create", &dir)?;
        Ok(dir)
    }

    /// Describes a complete file; if the snapshot is durable, syncs it and computes its digest.
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

    /// Publishes the snapshot in one step.
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
        // The snapshot is there, so this is no reason to undo it.
        File::open(&parent).and_then(|parent| parent.sync_all()).log_ignored("sync", &parent);
        link_tag(&self.store, manifest);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // The next command's sweep removes what remains.
            remove_dir(&self.dir).log_ignored("remove", &self.dir);
        }
    }
}

/// Links a tag to its snapshot. The link only serves to name a damaged snapshot, so a failure is not an
/// error.
fn link_tag(store: &Snapshots, manifest: &Manifest) {
    let Some(tag) = &manifest.tag else { return };
    fs::create_dir_all(store.tags()).log_ignored("create", store.tags());
    let link = store.tags().join(tag.as_str());
    fs::remove_file(&link).log_ignored("remove", &link);
    std::os::unix::fs::symlink(manifest.id.short(), &link).log_ignored("link a tag at", &link);
}

/// Whether the process that made a draft is gone. Reliable only under the store's lock, which is held while
/// a draft is made or committed.
pub(super) fn is_abandoned(dir: &Path) -> bool {
    match File::open(dir.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
