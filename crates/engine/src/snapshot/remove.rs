//! Removes snapshots, but none that others depend on.

use std::fs;

use super::store::REMOVED_PREFIX;
use super::{Kind, Snapshot, Snapshots, StoreError};
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{Registry, remove_dir};

/// A snapshot that was removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// Its id.
    pub id: SnapshotId,
    /// Its tag, or its short id.
    pub name: String,
    /// Bytes of memory that it stored.
    pub memory_bytes: u64,
}

/// Removes a snapshot whose manifest cannot be read, by its tag, its id or the name of its directory.
/// Returns false if there is none.
///
/// # Errors
/// When a system call fails.
pub fn remove_damaged(store: &Snapshots, name_or_id: &str) -> Result<bool, StoreError> {
    let _store_lock = store.lock()?;
    let Some(dir) = store.damaged_dir(name_or_id) else { return Ok(false) };
    remove_dir(&dir).at("remove", &dir)?;
    // Its manifest could not be read, so its tags are found by their links.
    for tag in fs::read_dir(store.tags()).into_iter().flatten().flatten() {
        if fs::read_link(tag.path()).is_ok_and(|target| Some(target.as_os_str()) == dir.file_name()) {
            fs::remove_file(tag.path()).log_ignored("remove", tag.path());
        }
    }
    Ok(true)
}

/// Removes a snapshot that is unusable. If other snapshots are built on it, or machines that may still be
/// saved run on it, it is retired instead: it stays for them, but no new machine is started from it.
/// Returns whether it was removed.
pub(crate) fn discard(
    store: &Snapshots,
    machines: &Registry,
    snapshot: &Snapshot,
) -> Result<bool, StoreError> {
    let _store_lock = store.lock()?;
    let id = &snapshot.manifest.id;
    if !snapshot.dir.exists() {
        return Ok(false);
    }
    let is_parent = store.list()?.iter().any(|other| other.manifest.parent.as_ref() == Some(id));
    // The machines of a fork that was given up do not count.
    let is_used = || machines.origins().is_ok_and(|used| used.contains(id));
    if is_parent || snapshot.manifest.kind == Kind::Runtime && is_used() {
        store.retire(id).at("make", store.retired(id))?;
        return Ok(false);
    }
    delete(store, snapshot).map(|_| true)
}

/// Removes a snapshot whose manifest cannot be read, by its tag, unless others are built on it.
pub(crate) fn discard_damaged(store: &Snapshots, tag: &str) -> Result<(), StoreError> {
    let _store_lock = store.lock()?;
    let Some(dir) = store.damaged_dir(tag) else { return Ok(()) };
    let is_damaged_one =
        |id: &SnapshotId| dir.file_name().is_some_and(|name| name.to_string_lossy() == id.short());
    if store.list()?.iter().any(|other| other.manifest.parent.as_ref().is_some_and(is_damaged_one)) {
        return Ok(());
    }
    remove_dir(&dir).at("remove", &dir)?;
    let link = store.tags().join(tag);
    fs::remove_file(&link).log_ignored("remove", &link);
    Ok(())
}

/// Hides the snapshot by one rename, then removes its files.
pub(crate) fn delete(store: &Snapshots, snapshot: &Snapshot) -> Result<Removed, StoreError> {
    let id = &snapshot.manifest.id;
    let hidden = store.home().snapshots().join(format!("{REMOVED_PREFIX}{}", id.short()));
    remove_dir(&hidden).at("remove", &snapshot.dir)?;
    fs::rename(&snapshot.dir, &hidden).at("remove", &snapshot.dir)?;
    remove_dir(&hidden).at("remove", &snapshot.dir)?;
    if let Some(tag) = snapshot.manifest.tag.as_ref().filter(|_| !store.is_retired(id)) {
        let link = store.tags().join(tag.as_str());
        fs::remove_file(&link).log_ignored("remove", &link);
    }
    fs::remove_file(store.retired(id)).log_ignored("remove", store.retired(id));
    super::memory::sweep(store);
    super::verify::sweep(store);
    Ok(Removed {
        id: id.clone(),
        name: snapshot.manifest.display_name().to_owned(),
        memory_bytes: snapshot.manifest.memory_bytes,
    })
}
