//! Removes unneeded snapshots and the files derived from them.

use std::collections::HashSet;

use crate::Engine;
use crate::ignored::LogFailure;
use crate::snapshot::{self, Kind, Removed, Snapshot, Snapshots, StoreError};
use crate::{boot_snapshot, snapshot_server, stencil, working_set};

/// Seconds after which every clone of a fork is in the registry.
const FORK_GRACE_SECONDS: i64 = 300;

/// Removes one snapshot. Machines that were started from it continue to run: they hold the files that
/// they use until they exit.
///
/// # Errors
/// If other snapshots build on it, a server serves it, or an operation on a file fails.
pub fn remove(engine: &Engine, snapshot: &Snapshot) -> Result<Removed, StoreError> {
    let store = engine.snapshots();
    let _lock = store.lock()?;
    let id = &snapshot.manifest.id;
    let dependents = store.list()?.into_iter().filter(|other| other.manifest.parent.as_ref() == Some(id));
    let users: Vec<_> =
        dependents.map(|dependent| format!("snapshot {}", dependent.manifest.display_name())).collect();
    let servers =
        snapshot_server::server_ids(engine, id).into_iter().map(|server| format!("snapshot server {server}"));
    let users: Vec<_> = users.into_iter().chain(servers).collect();
    if !users.is_empty() {
        return Err(StoreError::InUse { snapshot: snapshot.manifest.display_name().to_owned(), users });
    }
    delete(&store, snapshot)
}

/// Removes an unneeded snapshot and its stencil. If other snapshots build on it, it stays for them but is no
/// longer cloned.
pub(crate) fn discard(engine: &Engine, snapshot: &Snapshot) -> Result<(), StoreError> {
    stencil::discard_snapshot(&engine.snapshots(), &engine.registry(), snapshot)
}

fn delete(store: &Snapshots, snapshot: &Snapshot) -> Result<Removed, StoreError> {
    let removed = snapshot::delete(store, snapshot)?;
    stencil::remove(store, &snapshot.manifest.id);
    Ok(removed)
}

/// Removes unneeded snapshots: forks without machines, and boot snapshots of kernels, agents and VMMs
/// that are not in use any more; with `all`, every snapshot that no machine uses.
///
/// # Errors
/// If they cannot be listed or removed.
pub fn prune(engine: &Engine, all: bool) -> Result<Vec<Removed>, StoreError> {
    let store = engine.snapshots();
    let mut removed = Vec::new();
    // Each round may leave parents without dependents.
    loop {
        let _lock = store.lock()?;
        let snapshots = store.list()?;
        let used = engine.registry().origins()?;
        let parents: HashSet<_> =
            snapshots.iter().filter_map(|snapshot| snapshot.manifest.parent.clone()).collect();
        let idle = |snapshot: &&Snapshot| {
            let id = &snapshot.manifest.id;
            !used.contains(id) && !parents.contains(id) && snapshot_server::server_ids(engine, id).is_empty()
        };
        let unwanted = |snapshot: &&Snapshot| match snapshot.manifest.kind {
            Kind::Fork => true,
            Kind::Snapshot => all,
            Kind::Runtime => all || !boot_snapshot::is_current(engine, snapshot),
        };
        let unneeded: Vec<_> = snapshots.iter().filter(idle).filter(unwanted).collect();
        if unneeded.is_empty() {
            return Ok(removed);
        }
        for snapshot in unneeded {
            removed.push(delete(&store, snapshot)?);
        }
    }
}

/// Removes the snapshots of forks, and retired boot snapshots, that no machine and no snapshot needs any more.
pub(crate) fn sweep_snapshots(engine: &Engine) {
    let store = engine.snapshots();
    let Ok(_lock) = store.lock() else { return };
    let (Ok(snapshots), Ok(used)) = (store.list(), engine.registry().origins()) else { return };
    let parents: HashSet<_> =
        snapshots.iter().filter_map(|snapshot| snapshot.manifest.parent.clone()).collect();
    for snapshot in &snapshots {
        let id = &snapshot.manifest.id;
        let age = jiff::Timestamp::now().duration_since(snapshot.manifest.created).as_secs();
        let is_old_fork = snapshot.manifest.kind == Kind::Fork && age >= FORK_GRACE_SECONDS;
        let is_unneeded = is_old_fork || store.is_retired(id);
        let is_used =
            used.contains(id) || parents.contains(id) || !snapshot_server::server_ids(engine, id).is_empty();
        if is_unneeded && !is_used {
            delete(&store, snapshot).log_failure("sweep", "remove a snapshot that nothing needs");
        }
    }
}

/// Removes what no snapshot and no process needs: drafts, flattened memory, working sets, stencils.
pub(crate) fn sweep(engine: &Engine) {
    let store = engine.snapshots();
    store.sweep();
    working_set::sweep(&store);
    stencil::sweep(&store);
}
