//! Volumes and their owners.

use std::collections::HashMap;

use mimeo_engine::cause::chain;
use mimeo_engine::volumes::{Volume, VolumeError, VolumeName, VolumeRequest};
use mimeo_manager_api::{CreateMachine, NamedVolume, ResourceKind, Volume as Mount};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::caller::{Caller, LOCAL};
use crate::database::{DatabaseError, EventDraft, MANAGER, VolumeOwners, VolumeRow, Write, resource};
use crate::problems;

/// Runs work on the volumes on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The owner of a volume.
pub(crate) fn owner<'a>(owners: &'a VolumeOwners, volume: &Volume) -> &'a str {
    match owners.get(volume.name.as_str()) {
        Some((owner, created)) if *created == volume.created.as_microsecond() => owner,
        _ => LOCAL,
    }
}

/// The items of volumes.
pub(crate) async fn items(app: &App, volumes: Vec<Volume>) -> Result<Vec<NamedVolume>> {
    let owners = app.database().volume_owners().await?;
    let (store, registry) = (app.engine().volumes(), app.engine().registry());
    let described = blocking(move || {
        let mut users: HashMap<VolumeName, Vec<String>> = HashMap::new();
        let machines = registry.list()?;
        for volume in &volumes {
            let refers = machines.iter().filter(|found| found.record.refers_to(&volume.name));
            users.insert(volume.name.clone(), refers.map(|found| found.record.id.to_string()).collect());
        }
        let item = |volume: Volume| NamedVolume {
            owner: owner(&owners, &volume).to_owned(),
            labels: volume.labels.clone(),
            size_bytes: volume.bytes,
            used_bytes: store.disk_usage(&volume.name),
            machines: users.remove(&volume.name).unwrap_or_default(),
            created_at: volume.created,
            name: volume.name.to_string(),
        };
        Ok::<_, mimeo_engine::machine::LookupError>(volumes.into_iter().map(item).collect())
    });
    described.await.map_err(|error| ApiError::new(500, "volume-failed", chain(&error)))
}

/// Reads a volume that the caller may see.
pub(crate) async fn find(app: &App, caller: &Caller, name: &str) -> Result<Volume> {
    let missing = || ApiError::not_found("volume", name);
    let parsed: VolumeName = name.parse().map_err(|_| missing())?;
    let volume = read(app, &parsed).await?;
    let owners = app.database().volume_owners().await?;
    volume.filter(|volume| caller.sees(owner(&owners, volume))).ok_or_else(missing)
}

/// Creates a volume of the caller's. It is recorded first: if the manager is killed meanwhile, the volume has its owner, or the
/// next manager removes the record of a volume that was not made.
pub(crate) async fn create(app: &App, caller: &Caller, request: VolumeRequest) -> Result<Volume> {
    let volume = request.plan().map_err(|error| problems::volume_problem(&error))?;
    let turn = take_turn(app, volume.name.as_str()).await;
    if read(app, &volume.name).await?.is_some() {
        return Err(problems::volume_problem(&VolumeError::Exists { name: volume.name }).into());
    }
    let row = VolumeRow {
        name: volume.name.to_string(),
        owner: caller.name.clone(),
        created_at: volume.created.as_microsecond(),
        bytes: Some(volume.bytes),
    };
    record_request(app, &row).await?;
    let store = app.engine().volumes();
    // The thread goes on if the client leaves, and keeps the turn until it has ended.
    let (made, _turn) = blocking(move || (store.create_planned(volume), turn)).await;
    let mut write = app.database().write().await?;
    let kind = if made.is_ok() { "volume.created" } else { "volume.create_failed" };
    if made.is_err() {
        write.remove_volume(&row.name, row.created_at).await?;
    }
    record(&mut write, kind, &row, &row.owner).await?;
    write.commit().await?;
    Ok(made.map_err(|error| problems::volume_problem(&error))?)
}

async fn record_request(app: &App, row: &VolumeRow) -> Result<()> {
    let mut write = app.database().write().await?;
    write.add_volume(row).await?;
    record(&mut write, "volume.create_requested", row, &row.owner).await?;
    Ok(write.commit().await?)
}

async fn record(
    write: &mut Write<'_>,
    kind: &str,
    row: &VolumeRow,
    actor: &str,
) -> std::result::Result<(), DatabaseError> {
    let resource = resource(ResourceKind::Volume, &*row.name);
    let data = json!({ "size_bytes": row.bytes });
    write.event(EventDraft { kind, actor, owner: &row.owner, resource, data }).await
}

/// Records that a volume was removed by this user, or vanished.
pub(crate) async fn record_removed(
    app: &App,
    row: &VolumeRow,
    actor: &str,
) -> std::result::Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    // A volume that was made without the manager has no record.
    write.remove_volume(&row.name, row.created_at).await?;
    record(&mut write, "volume.removed", row, actor).await?;
    write.commit().await
}

/// Waits until no other request creates or removes the volume.
pub(crate) async fn take_turn(app: &App, name: &str) -> OwnedMutexGuard<()> {
    app.turns().take(&turn_name(name)).await
}

fn turn_name(volume: &str) -> String {
    format!("volume {volume}")
}

async fn read(app: &App, name: &VolumeName) -> Result<Option<Volume>> {
    let (store, name) = (app.engine().volumes(), name.clone());
    let found = blocking(move || store.read(&name)).await;
    Ok(found.map_err(|error| problems::volume_problem(&error))?)
}

/// Drops the records of volumes that have vanished, or were never made, and records the sizes of those that an earlier version
/// has recorded.
pub(crate) async fn refresh(app: &App) -> std::result::Result<(), DatabaseError> {
    for row in app.database().volumes().await? {
        let Ok(name) = row.name.parse::<VolumeName>() else { continue };
        // One that is being made or removed is looked at later.
        let Some(_turn) = app.turns().try_take(&turn_name(&row.name)) else { continue };
        let Ok(found) = read(app, &name).await else { continue };
        match found.filter(|volume| volume.created.as_microsecond() == row.created_at) {
            Some(volume) if row.bytes.is_none() => {
                let mut write = app.database().write().await?;
                write.set_volume_bytes(&row.name, volume.bytes).await?;
                write.commit().await?;
            }
            Some(_) => {}
            None => drop_record(app, &row).await?,
        }
    }
    Ok(())
}

/// Drops the record of a volume that does not exist.
async fn drop_record(app: &App, row: &VolumeRow) -> std::result::Result<(), DatabaseError> {
    let mut write = app.database().write().await?;
    // Another request may have dropped it meanwhile.
    if write.remove_volume(&row.name, row.created_at).await? {
        record(&mut write, "volume.removed", row, MANAGER).await?;
    }
    write.commit().await
}

/// Makes sure that the caller owns the named volumes of a new machine: those that do not exist are created, those of other
/// users are refused.
pub(crate) async fn claim(app: &App, caller: &Caller, request: &CreateMachine) -> Result<()> {
    for mount in &request.volumes {
        let Mount::Volume { source: Some(name), .. } = mount else { continue };
        let Ok(name) = name.parse::<VolumeName>() else { continue };
        if read(app, &name).await?.is_none() {
            let request = VolumeRequest { name: Some(name.clone()), ..VolumeRequest::default() };
            match create(app, caller, request).await {
                Ok(_) => continue,
                // Another client was faster.
                Err(error) if error.problem().code == "volume-exists" => {}
                Err(error) => return Err(error),
            }
        }
        find(app, caller, name.as_str()).await?;
    }
    Ok(())
}
