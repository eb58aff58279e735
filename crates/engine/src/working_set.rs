//! Working sets: the pages that clones of a snapshot need first.
//!
//! The working set is recorded from the first clone, shortly after its start. For later clones the pages are prefetched
//! in one go while the VMM starts. Without this, on a host that does not have the memory file in its page cache, the
//! guest would wait for each page, one by one, in the order of its accesses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_pager::{PAGE, Pages, Region, working_set};
use mimeo_vmm::GuestMemory;
use tokio::task::spawn_blocking;

use crate::durable;
use crate::id::SnapshotId;
use crate::ignored::{LogFailure, LogIgnored};
use crate::snapshot::{Snapshot, Snapshots};

/// How long after a clone's start its working set is recorded: what it has accessed until then.
const RECORD_DELAY: Duration = Duration::from_secs(2);

/// Records which pages a clone of the snapshot accesses in the first seconds after its start, unless that is known.
pub(crate) async fn record(store: Snapshots, snapshot: SnapshotId, memory: GuestMemory) {
    let path = record_path(&store, &snapshot);
    if path.exists() {
        return;
    }
    tokio::time::sleep(RECORD_DELAY).await;
    let recorded = spawn_blocking(move || {
        let regions: Vec<_> = memory
            .pieces
            .iter()
            .map(|piece| Region { address: piece.address, offset: piece.offset, length: piece.length })
            .collect();
        // The clone may have ended by now. The next one is recorded instead, also if the disk is full.
        let Ok(pages) = working_set::record(memory.pid, &regions) else { return };
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| durable::write(&path, &pages.to_bytes()));
        written.log_ignored("write the working set", &path);
    });
    recorded.await.log_failure("working-set", "record the working set");
}

/// Prefetches the snapshot's working set in a thread of its own. Nothing waits for it.
pub(crate) fn read_ahead(store: &Snapshots, snapshot: &Snapshot, memory: &Path) {
    let limit = (u64::from(snapshot.manifest.requires.memory_mib) << 20) / PAGE;
    let Ok(bytes) = fs::read(record_path(store, &snapshot.manifest.id)) else { return };
    let Ok(pages) = Pages::from_bytes(&bytes, limit) else { return };
    let memory = memory.to_owned();
    std::thread::spawn(move || {
        // What is not prefetched is read when the guest accesses it.
        if let Err(error) = working_set::prefetch(&memory, &pages) {
            tracing::debug!(path = %memory.display(), %error, "cannot prefetch the working set");
        }
    });
}

/// Removes the working sets of snapshots that no longer exist.
pub(crate) fn sweep(store: &Snapshots) {
    for entry in fs::read_dir(directory(store)).into_iter().flatten().flatten() {
        if !store.home().snapshots().join(entry.file_name()).exists() {
            fs::remove_file(entry.path()).log_leftover(entry.path());
        }
    }
}

fn directory(store: &Snapshots) -> PathBuf {
    store.home().home().join("working-sets")
}

/// The file that a snapshot's working set is recorded in.
pub(crate) fn record_path(store: &Snapshots, snapshot: &SnapshotId) -> PathBuf {
    directory(store).join(snapshot.short())
}
