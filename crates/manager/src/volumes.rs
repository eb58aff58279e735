//! Volumes and their owners.

use std::collections::HashMap;

use mimeo_engine::cause::chain;
use mimeo_engine::volumes::{Volume, VolumeName, VolumeRequest};
use mimeo_manager_api::{CreateMachine, NamedVolume, Volume as Mount};

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::caller::{Caller, LOCAL};
use crate::database::VolumeOwners;
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
    let store = app.engine().volumes();
    let volume =
        blocking(move || store.read(&parsed)).await.map_err(|error| problems::volume_problem(&error))?;
    let owners = app.database().volume_owners().await?;
    volume.filter(|volume| caller.sees(owner(&owners, volume))).ok_or_else(missing)
}

/// Creates a volume of this owner.
pub(crate) async fn create(app: &App, owner: &str, request: VolumeRequest) -> Result<Volume> {
    let store = app.engine().volumes();
    let created = blocking(move || store.create(request)).await;
    let volume = created.map_err(|error| problems::volume_problem(&error))?;
    let mut write = app.database().write().await?;
    write.set_volume_owner(volume.name.as_str(), owner, volume.created.as_microsecond()).await?;
    write.commit().await?;
    Ok(volume)
}

/// Makes sure that the caller owns the named volumes of a new machine: those that do not exist are created, those of other
/// users are refused.
pub(crate) async fn claim(app: &App, caller: &Caller, request: &CreateMachine) -> Result<()> {
    for mount in &request.volumes {
        let Mount::Volume { source: Some(name), .. } = mount else { continue };
        let Ok(name) = name.parse::<VolumeName>() else { continue };
        let store = app.engine().volumes();
        let parsed = name.clone();
        let found = blocking(move || store.read(&parsed)).await;
        if found.map_err(|error| problems::volume_problem(&error))?.is_none() {
            let request = VolumeRequest { name: Some(name.clone()), ..VolumeRequest::default() };
            match create(app, &caller.name, request).await {
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
