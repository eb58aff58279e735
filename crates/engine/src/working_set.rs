//! The pages that copies of a snapshot need first.
//!
//! The first copy's are noted when it has begun its work. For later ones they
//! are read ahead, all at once, while the virtual machine's process starts: on
//! a host that has the memory file not in its page cache, each would be waited
//! for otherwise, one by one, in the guest's own order.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_pager::{PAGE, Pages, Region, working_set};
use mimeo_vmm::GuestMemory;
use tokio::task::spawn_blocking;

use crate::durable;
use crate::id::SnapshotId;
use crate::snapshot::{Snapshot, Snapshots};

/// What a copy has touched by then is what it needs to begin.
const RECORD_DELAY: Duration = Duration::from_secs(2);

/// Notes what a copy of the snapshot has touched a while after its start,
/// unless that is known.
pub(crate) async fn note(store: Snapshots, snapshot: SnapshotId, memory: GuestMemory) {
    let path = file(&store, &snapshot);
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
        // A copy that has ended by now, or a disk that is full, leaves it to the next.
        let Ok(pages) = working_set::record(memory.pid, &regions) else { return };
        if path.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok()) {
            durable::write(&path, &pages.to_bytes()).ok();
        }
    });
    recorded.await.ok();
}

/// Reads ahead what copies need first, on a thread of its own; nothing waits for it.
pub(crate) fn read_ahead(store: &Snapshots, snapshot: &Snapshot, memory: &Path) {
    let limit = (u64::from(snapshot.manifest.requires.memory_mib) << 20) / PAGE;
    let Ok(bytes) = fs::read(file(store, &snapshot.manifest.id)) else { return };
    let Ok(pages) = Pages::from_bytes(&bytes, limit) else { return };
    let memory = memory.to_owned();
    // What cannot be read ahead is read when it is needed.
    std::thread::spawn(move || working_set::prefetch(&memory, &pages).ok());
}

/// Forgets those of snapshots that are gone.
pub(crate) fn sweep(store: &Snapshots) {
    for entry in fs::read_dir(directory(store)).into_iter().flatten().flatten() {
        if !store.home().snapshots().join(entry.file_name()).exists() {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn directory(store: &Snapshots) -> PathBuf {
    store.home().home().join("working-sets")
}

/// Where those of a snapshot are noted.
pub(crate) fn file(store: &Snapshots, snapshot: &SnapshotId) -> PathBuf {
    directory(store).join(snapshot.short())
}
