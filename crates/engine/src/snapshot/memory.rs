//! Flattens a snapshot's memory into one file that machines can map.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mimeo_pager::{PAGE, PagerError, Pages, flatten};
use rustix::fs::{FlockOperation, flock};

use super::manifest::{MEMORY, PAGES};
use super::{LoadError, Snapshot, Snapshots, verify};
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{boot_id, remove_dir};

/// Lock file, held while memory is flattened.
const FLATTEN_LOCK: &str = ".laying";

/// Returns the memory file that machines map. A snapshot without a parent already has one; for others it is
/// flattened once and kept until a reboot or until the snapshot is removed. It can be flattened again at
/// any time, so it is not synced.
pub(crate) fn flatten_memory(store: &Snapshots, snapshot: &Snapshot) -> Result<PathBuf, LoadError> {
    let Some(parent) = &snapshot.manifest.parent else { return Ok(snapshot.dir.join(MEMORY)) };
    let dir = flat_memory_dir(store);
    let path = dir.join(snapshot.manifest.id.short());
    if path.exists() {
        return Ok(path);
    }
    let parent = store.read(parent).map_err(|error| match error {
        LoadError::Io(_) => LoadError::MissingParent { parent: parent.short().to_owned() },
        other => other,
    })?;
    // Damage in the parent could not be detected in the flattened file.
    verify(store, &parent)?;
    let below = flatten_memory(store, &parent)?;
    fs::create_dir_all(&dir).at("create", &dir)?;
    let limit = (u64::from(snapshot.manifest.requires.memory_mib) << 20) / PAGE;
    let pages = read_pages(&snapshot.dir, limit)?;
    let lock = lock_flattening(&dir, FlockOperation::LockExclusive);
    let _flatten_lock = lock.at("lock", dir.join(FLATTEN_LOCK))?;
    // When several clones start at once, the first one flattens the memory for all.
    if path.exists() {
        return Ok(path);
    }
    flatten(&below, &snapshot.dir.join(MEMORY), &pages, &path).map_err(PagerError::from)?;
    Ok(path)
}

/// Locks the directory for flattening; the kernel releases the lock when the process ends.
fn lock_flattening(dir: &Path, operation: FlockOperation) -> io::Result<File> {
    let file = File::create(dir.join(FLATTEN_LOCK))?;
    flock(&file, operation)?;
    Ok(file)
}

fn read_pages(dir: &Path, limit: u64) -> Result<Pages, LoadError> {
    let path = dir.join(PAGES);
    let bytes = fs::read(&path).at("read", &path)?;
    Pages::from_bytes(&bytes, limit).map_err(|_| LoadError::Damaged { path })
}

fn flat_memory_dir(store: &Snapshots) -> PathBuf {
    store.home().home().join("memory").join(boot_id())
}

/// Removes the flattened memory of removed snapshots and of earlier boots: after a reboot the contents of
/// unsynced files are undefined.
pub(super) fn sweep(store: &Snapshots) {
    let current = flat_memory_dir(store);
    for dir in entries(&store.home().home().join("memory")) {
        if dir != current {
            remove_dir(&dir).log_leftover(&dir);
        }
    }
    // With the exclusive lock, an unfinished file was abandoned.
    let exclusive = lock_flattening(&current, FlockOperation::NonBlockingLockExclusive);
    for file in entries(&current) {
        let name = file.file_name().unwrap_or_default();
        let is_lock = name.to_string_lossy() == FLATTEN_LOCK;
        let is_removable = !name.to_string_lossy().starts_with('.') || exclusive.is_ok();
        if !is_lock && is_removable && !store.home().snapshots().join(name).exists() {
            fs::remove_file(&file).log_leftover(&file);
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
