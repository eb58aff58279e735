//! Removing snapshots: never from under what is built on them.

use std::collections::HashSet;
use std::fs;

use super::store::GOING;
use super::{Kind, Snapshot, Snapshots, StoreError};
use crate::Engine;
use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::machine::{LookupError, remove_dir};

/// A snapshot that was removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// What it said of itself.
    pub id: SnapshotId,
    /// What people called it.
    pub called: String,
    /// Bytes of memory that it held.
    pub memory_bytes: u64,
}

/// Removes one snapshot. Machines that were started from it go on: what they
/// use of it stays theirs until they end.
///
/// # Errors
/// When other snapshots are built on it, or the system refuses.
pub fn remove(engine: &Engine, snapshot: &Snapshot) -> Result<Removed, StoreError> {
    let store = engine.snapshots();
    let _all = store.lock()?;
    let id = &snapshot.manifest.id;
    let children = store.list()?.into_iter().filter(|other| other.manifest.parent.as_ref() == Some(id));
    let users: Vec<_> = children.map(|child| format!("snapshot {}", child.manifest.called())).collect();
    let serves = crate::serve::serving(engine, id).into_iter().map(|serve| format!("serve {serve}"));
    let users: Vec<_> = users.into_iter().chain(serves).collect();
    if !users.is_empty() {
        return Err(StoreError::InUse { snapshot: snapshot.manifest.called().to_owned(), users });
    }
    vanish(&store, snapshot)
}

/// Removes a snapshot whose manifest cannot be read, by its tag, its id or the
/// name of its directory; false when there is none.
///
/// # Errors
/// When the system refuses.
pub fn remove_damaged(engine: &Engine, word: &str) -> Result<bool, StoreError> {
    let store = engine.snapshots();
    let _all = store.lock()?;
    let Some(dir) = store.damaged_dir(word) else { return Ok(false) };
    remove_dir(&dir).at("remove", &dir)?;
    // Its own list of names could not be read.
    for tag in fs::read_dir(store.tags()).into_iter().flatten().flatten() {
        if fs::read_link(tag.path()).is_ok_and(|to| Some(to.as_os_str()) == dir.file_name()) {
            fs::remove_file(tag.path()).ok();
        }
    }
    Ok(true)
}

/// Removes a snapshot that is of no use. One that others are built on, or that
/// machines run on which may yet be kept, stays for them, and is not copied any more.
pub(crate) fn discard(engine: &Engine, snapshot: &Snapshot) -> Result<(), StoreError> {
    let store = &engine.snapshots();
    let _all = store.lock()?;
    let id = &snapshot.manifest.id;
    if !snapshot.dir.exists() {
        return Ok(());
    }
    let is_parent = store.list()?.iter().any(|other| other.manifest.parent.as_ref() == Some(id));
    // Children of a fork that was given up are no machines.
    let is_used = || used(engine).is_ok_and(|used| used.contains(id));
    if is_parent || snapshot.manifest.kind == Kind::Runtime && is_used() {
        return Ok(store.retire(id).at("make", store.retired(id))?);
    }
    vanish(store, snapshot).map(drop)
}

/// Removes a snapshot of which nothing but its tag can be read, unless others
/// are built on it.
pub(crate) fn discard_damaged(store: &Snapshots, tag: &str) -> Result<(), StoreError> {
    let _all = store.lock()?;
    let Some(dir) = store.damaged_dir(tag) else { return Ok(()) };
    let is_it = |id: &SnapshotId| dir.file_name().is_some_and(|name| name.to_string_lossy() == id.short());
    if store.list()?.iter().any(|other| other.manifest.parent.as_ref().is_some_and(is_it)) {
        return Ok(());
    }
    remove_dir(&dir).at("remove", &dir)?;
    fs::remove_file(store.tags().join(tag)).ok();
    Ok(())
}

/// First out of sight, in one step; then piece by piece.
fn vanish(store: &Snapshots, snapshot: &Snapshot) -> Result<Removed, StoreError> {
    let id = &snapshot.manifest.id;
    let gone = store.home().snapshots().join(format!("{GOING}{}", id.short()));
    remove_dir(&gone).at("remove", &snapshot.dir)?;
    fs::rename(&snapshot.dir, &gone).at("remove", &snapshot.dir)?;
    remove_dir(&gone).at("remove", &snapshot.dir)?;
    if let Some(tag) = snapshot.manifest.tag.as_ref().filter(|_| !store.is_retired(id)) {
        fs::remove_file(store.tags().join(tag.as_str())).ok();
    }
    fs::remove_file(store.retired(id)).ok();
    crate::stencil::forget(store, id);
    super::memory::sweep(store);
    super::verify::sweep(store);
    Ok(Removed {
        id: id.clone(),
        called: snapshot.manifest.called().to_owned(),
        memory_bytes: snapshot.manifest.memory_bytes,
    })
}

/// Removes what nobody needs any more: forks whose machines are gone, runtime
/// snapshots of kernels, agents and monitors that are not in use here any more;
/// with `all`, every snapshot that no machine runs on.
///
/// # Errors
/// When they cannot be listed or removed.
pub fn prune(engine: &Engine, all: bool) -> Result<Vec<Removed>, StoreError> {
    let store = engine.snapshots();
    let mut removed = Vec::new();
    // Each round may free the parents of those that went.
    loop {
        let _lock = store.lock()?;
        let snapshots = store.list()?;
        let used = used(engine)?;
        let parents: HashSet<_> =
            snapshots.iter().filter_map(|snapshot| snapshot.manifest.parent.clone()).collect();
        let idle = |snapshot: &&Snapshot| {
            let id = &snapshot.manifest.id;
            !used.contains(id) && !parents.contains(id) && crate::serve::serving(engine, id).is_empty()
        };
        let unwanted = |snapshot: &&Snapshot| match snapshot.manifest.kind {
            Kind::Fork => true,
            Kind::Snapshot => all,
            Kind::Runtime => all || !crate::boot_snapshot::is_current(engine, snapshot),
        };
        let going: Vec<_> = snapshots.iter().filter(idle).filter(unwanted).collect();
        if going.is_empty() {
            return Ok(removed);
        }
        for snapshot in going {
            removed.push(vanish(&store, snapshot)?);
        }
    }
}

/// Snapshots that machines were started from which have not been removed.
fn used(engine: &Engine) -> Result<HashSet<SnapshotId>, LookupError> {
    Ok(engine.registry().list()?.into_iter().filter_map(|found| found.record.origin).collect())
}

/// Removes forks that nobody needs any more.
pub(crate) fn sweep_forks(engine: &Engine) {
    let store = engine.snapshots();
    let Ok(_lock) = store.lock() else { return };
    let (Ok(snapshots), Ok(used)) = (store.list(), used(engine)) else { return };
    let parents: HashSet<_> =
        snapshots.iter().filter_map(|snapshot| snapshot.manifest.parent.clone()).collect();
    for snapshot in &snapshots {
        let id = &snapshot.manifest.id;
        let young = jiff::Timestamp::now().duration_since(snapshot.manifest.created).as_secs() < FORKING;
        if snapshot.manifest.kind == Kind::Fork && !young && !used.contains(id) && !parents.contains(id) {
            vanish(&store, snapshot).ok();
        }
    }
}

/// Seconds that a fork's children may take to be listed.
const FORKING: i64 = 300;
