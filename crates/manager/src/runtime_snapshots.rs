//! Boot snapshots, as the API shows them.

use mimeo_engine::boot_snapshot;
use mimeo_engine::cause::chain;
use mimeo_engine::snapshot::{Kind, Snapshot};
use mimeo_manager_api::{Accelerator, CreateRuntimeSnapshot, RuntimeSnapshot, RuntimeVolume};

use crate::App;
use crate::api_error::{ApiError, Result};

/// Lists the boot snapshots, the newest last.
pub(crate) async fn list(app: &App) -> Result<Vec<Snapshot>> {
    let store = app.engine().snapshots();
    let listed = tokio::task::spawn_blocking(move || store.list()).await;
    let failed = |detail: String| ApiError::new(500, "store-unreadable", detail);
    let mut found =
        listed.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(chain(&error)))?;
    found.retain(|snapshot| snapshot.manifest.kind == Kind::Runtime);
    Ok(found)
}

/// The item of a boot snapshot.
pub(crate) async fn item(app: &App, snapshot: &Snapshot) -> RuntimeSnapshot {
    items(app, std::slice::from_ref(snapshot)).await.remove(0)
}

/// The items of boot snapshots.
pub(crate) async fn items(app: &App, snapshots: &[Snapshot]) -> Vec<RuntimeSnapshot> {
    let (engine, snapshots) = (app.engine().clone(), snapshots.to_vec());
    let made = tokio::task::spawn_blocking(move || {
        let machines = engine.registry().list().unwrap_or_default();
        let item = |snapshot: &Snapshot| {
            let id = Some(&snapshot.manifest.id);
            let count = machines.iter().filter(|found| found.record.origin.as_ref() == id).count();
            describe(snapshot, boot_snapshot::is_current(&engine, snapshot), count)
        };
        snapshots.iter().map(item).collect()
    });
    match made.await {
        Ok(items) => items,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn describe(snapshot: &Snapshot, current: bool, machines: usize) -> RuntimeSnapshot {
    let manifest = &snapshot.manifest;
    let (boot, requires) = (manifest.boot.as_ref(), &manifest.requires);
    let volume = |read_only: &bool| RuntimeVolume { read_only: *read_only };
    RuntimeSnapshot {
        id: manifest.id.to_string(),
        tag: manifest.display_name().to_owned(),
        current,
        cpus: boot.map(|boot| boot.cpus),
        memory_mib: requires.memory_mib,
        network: boot.map(|boot| boot.network),
        volumes: boot.map(|boot| boot.volumes.iter().map(volume).collect()),
        driver: requires.driver.clone(),
        accelerator: requires.accelerator.to_string(),
        kernel: requires.kernel.clone(),
        memory_bytes: manifest.memory_bytes,
        machines: u32::try_from(machines).unwrap_or(u32::MAX),
        created_at: manifest.created,
    }
}

/// The configuration that a boot snapshot is for; `None` if it was not recorded.
pub(crate) fn configuration(snapshot: &Snapshot) -> Option<CreateRuntimeSnapshot> {
    let boot = snapshot.manifest.boot.as_ref()?;
    let requires = &snapshot.manifest.requires;
    let accelerator = match requires.accelerator.to_string().as_str() {
        "kvm" => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    };
    Some(CreateRuntimeSnapshot {
        cpus: Some(boot.cpus),
        memory_mib: Some(boot.memory_mib),
        driver: Some(requires.driver.clone()),
        accelerator: Some(accelerator),
        network: Some(boot.network),
        volumes: boot.volumes.iter().map(|read_only| RuntimeVolume { read_only: *read_only }).collect(),
    })
}
