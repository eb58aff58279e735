//! The records of snapshots: who owns them, and what the API shows of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use mimeo_engine::SnapshotId;
use mimeo_engine::cause::chain;
use mimeo_engine::machine::Found;
use mimeo_engine::snapshot::{Kind, Manifest, Snapshot as Saved};
use mimeo_manager_api::{ResourceKind, Snapshot, SnapshotKind, SnapshotState};
use serde_json::json;

use crate::App;
use crate::caller::LOCAL;
use crate::database::{DatabaseError, EventDraft, Write, resource};

/// What a snapshot holds.
pub(crate) fn kind(manifest: &Manifest) -> SnapshotKind {
    match &manifest.parent {
        _ if manifest.is_disk_only() => SnapshotKind::Disk,
        Some(_) => SnapshotKind::Diff,
        None => SnapshotKind::Full,
    }
}

/// A snapshot of this machine that was requested, and is not taken yet.
pub(crate) fn requested(
    id: String,
    tag: Option<String>,
    labels: BTreeMap<String, String>,
    owner: &str,
    machine: &Found,
) -> Snapshot {
    let spec = &machine.record.spec;
    Snapshot {
        id,
        tag,
        owner: owner.to_owned(),
        labels,
        state: SnapshotState::Creating,
        version: 1,
        kind: None,
        machine: machine.record.id.to_string(),
        machine_name: machine.record.name.to_string(),
        image: spec.image.clone(),
        cpus: spec.cpus,
        memory_mib: spec.memory_mib,
        disk_bytes: spec.disk_bytes,
        driver: spec.driver.clone(),
        parent: None,
        memory_bytes: 0,
        pause_ms: None,
        created_at: jiff::Timestamp::now(),
    }
}

/// The bytes of the disk that a snapshot of this machine may need: of its memory, or of its disk if it does not run. What a
/// running machine has written to its disk is known only afterwards.
pub(crate) fn expected_bytes(machine: &Found) -> u64 {
    match machine.record.phase().is_live() {
        true => u64::from(machine.record.spec.memory_mib) << 20,
        false => machine.record.spec.disk_bytes,
    }
}

/// Writes what the snapshot's manifest says into its item.
fn describe(item: &mut Snapshot, manifest: &Manifest) {
    item.kind = Some(kind(manifest));
    item.parent = manifest.parent.as_ref().map(ToString::to_string);
    item.memory_bytes = manifest.memory_bytes;
    item.pause_ms = (!manifest.is_disk_only()).then(|| manifest.pause_micros as f64 / 1000.0);
    item.driver.clone_from(&manifest.requires.driver);
    item.created_at = manifest.created;
}

/// The item of a snapshot that was made without the manager.
fn adopted(saved: &Saved) -> Option<Snapshot> {
    let Manifest { id, tag, machine, .. } = &saved.manifest;
    let record = machine.clone()?;
    let found = Found { supervised: false, record, dir: saved.dir.clone() };
    let tag = tag.as_ref().map(ToString::to_string);
    let mut item = requested(id.to_string(), tag, BTreeMap::new(), LOCAL, &found);
    describe(&mut item, &saved.manifest);
    item.state = SnapshotState::Ready;
    Some(item)
}

/// Records that a snapshot was taken. Returns its item.
pub(crate) async fn record_taken(app: &App, saved: &Saved) -> Result<Option<Snapshot>, DatabaseError> {
    let mut write = app.database().write().await?;
    let Some(mut item) = write.snapshot(saved.manifest.id.as_str()).await? else { return Ok(None) };
    if item.state == SnapshotState::Creating {
        describe(&mut item, &saved.manifest);
        write.store_snapshot(&mut item, saved.disk_usage()).await?;
        record_event(&mut write, "snapshot.created", &item).await?;
    }
    write.commit().await?;
    Ok(Some(item))
}

/// Forgets a snapshot that was not taken.
pub(crate) async fn forget(app: &App, id: &str) -> Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    write.remove_snapshot(id).await?;
    write.commit().await
}

/// Records that a snapshot was removed by this user, or vanished.
pub(crate) async fn record_removed(app: &App, item: &Snapshot, actor: &str) -> Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    if write.remove_snapshot(&item.id).await? {
        let data = json!({ "tag": item.tag });
        let resource = resource(ResourceKind::Snapshot, &*item.id);
        let draft = EventDraft { kind: "snapshot.removed", actor, owner: &item.owner, resource, data };
        write.event(draft).await?;
    }
    write.commit().await
}

async fn record_event(write: &mut Write<'_>, kind: &str, item: &Snapshot) -> Result<(), DatabaseError> {
    let data = json!({ "tag": item.tag, "machine": item.machine });
    let resource = resource(ResourceKind::Snapshot, &*item.id);
    write.event(EventDraft::of_manager(kind, &item.owner, resource, data)).await
}

/// Adopts the snapshots that were made without the manager, and drops the records of those that have vanished.
pub(crate) async fn refresh(app: &App) -> Result<(), DatabaseError> {
    // In this order: a snapshot whose record is read here, and which is taken meanwhile, is not taken for a vanished one.
    let recorded: HashMap<String, Snapshot> =
        app.database().all_snapshots().await?.into_iter().map(|item| (item.id.clone(), item)).collect();
    let Some(found) = list(app).await else { return Ok(()) };
    let ids: HashSet<&str> = found.iter().map(|saved| saved.manifest.id.as_str()).collect();
    for saved in found.iter().filter(|saved| !recorded.contains_key(saved.manifest.id.as_str())) {
        if let Some(item) = adopted(saved) {
            adopt(app, &item, saved.disk_usage()).await?;
        }
    }
    let is_gone = |item: &&Snapshot| item.state == SnapshotState::Ready && !ids.contains(&*item.id);
    for item in recorded.values().filter(is_gone) {
        record_removed(app, item, crate::database::MANAGER).await?;
    }
    Ok(())
}

/// Records how many bytes of the disk snapshots occupy that an earlier version has recorded.
pub(crate) async fn record_sizes(app: &App) -> Result<(), DatabaseError> {
    for id in app.database().snapshots_of_unknown_size().await? {
        let Ok(parsed) = SnapshotId::try_from(id.clone()) else { continue };
        let Ok(saved) = app.engine().snapshots().read(&parsed) else { continue };
        let mut write = app.database().write().await?;
        write.set_snapshot_bytes(&id, saved.disk_usage()).await?;
        write.commit().await?;
    }
    Ok(())
}

/// The snapshots that users have made; `None` if they cannot be listed.
async fn list(app: &App) -> Option<Vec<Saved>> {
    let store = app.engine().snapshots();
    match tokio::task::spawn_blocking(move || store.list()).await {
        Ok(Ok(mut found)) => {
            found.retain(|saved| saved.manifest.kind == Kind::Snapshot);
            Some(found)
        }
        Ok(Err(error)) => {
            tracing::warn!(component = "snapshots", error = chain(&error), "cannot list the snapshots");
            None
        }
        Err(error) => {
            tracing::error!(component = "snapshots", %error, "cannot list the snapshots");
            None
        }
    }
}

async fn adopt(app: &App, item: &Snapshot, bytes: u64) -> Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    if write.snapshot(&item.id).await?.is_some() {
        return Ok(());
    }
    match write.add_snapshot(item, bytes).await {
        // A snapshot that is being taken has claimed the tag, and will fail.
        Err(DatabaseError::Duplicate) => return Ok(()),
        added => added?,
    }
    record_event(&mut write, "snapshot.adopted", item).await?;
    write.commit().await
}
