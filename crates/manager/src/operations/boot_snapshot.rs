//! Makes boot snapshots.

use mimeo_engine::SnapshotId;
use mimeo_engine::boot_snapshot::{self, BootSnapshotError};
use mimeo_engine::machine::{AUTO_DRIVER, BootConfiguration, MachineSpec};
use mimeo_engine::snapshot::Snapshot;
use mimeo_manager_api::CreateRuntimeSnapshot;

use super::finish::Outcome;
use crate::App;
use crate::convert::{self, ConvertError};
use crate::live::LiveOperation;
use crate::runtime_snapshots;

/// The most vCPUs and MiB of memory that a boot snapshot can be requested for: an error in the request, not the host's limit.
const MAX_CPUS: u32 = 1024;
const MAX_MEMORY_MIB: u32 = 64 << 20;
const MIN_MEMORY_MIB: u32 = 64;
/// The most named volumes.
const MAX_VOLUMES: usize = 16;

/// A machine of this configuration.
///
/// # Errors
/// If a value cannot be used.
pub(crate) fn machine_spec(app: &App, wire: &CreateRuntimeSnapshot) -> Result<MachineSpec, ConvertError> {
    let default = MachineSpec::new(String::new());
    let configuration = BootConfiguration {
        cpus: wire.cpus.unwrap_or(default.cpus),
        memory_mib: wire.memory_mib.unwrap_or(default.memory_mib),
        network: wire.network.unwrap_or(true),
        volumes: wire.volumes.iter().map(|volume| volume.read_only).collect(),
    };
    let range = |field: &str, value: u32, min: u32, max: u32| match value {
        value if (min..=max).contains(&value) => Ok(()),
        value => Err(ConvertError::new(field, format!("{value} is not between {min} and {max}"))),
    };
    range("cpus", configuration.cpus, 1, MAX_CPUS)?;
    range("memory_mib", configuration.memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB)?;
    if configuration.volumes.len() > MAX_VOLUMES {
        return Err(ConvertError::new("volumes", format!("there are more than {MAX_VOLUMES}")));
    }
    let mut spec = configuration.machine();
    if let Some(name) = &wire.driver {
        let is_known = name == AUTO_DRIVER || app.engine().driver_names().any(|known| known == name);
        if !is_known {
            return Err(ConvertError::new("driver", format!("there is no driver {name:?}")));
        }
        spec.driver.clone_from(name);
    }
    convert::set_accelerator(&mut spec, wire.accelerator)?;
    Ok(spec)
}

/// Makes the boot snapshot of machines of this configuration, unless there is one.
pub(super) async fn build(app: &App, live: &LiveOperation, configuration: &CreateRuntimeSnapshot) -> Outcome {
    let spec = match machine_spec(app, configuration) {
        Ok(spec) => spec,
        Err(error) => return Outcome::failed(crate::problems::invalid_field(&error)),
    };
    let built = tokio::select! {
        built = boot_snapshot::prepare(app.engine(), &spec) => built,
        () = live.cancel.cancelled() => return Outcome::Cancelled,
        () = app.end().cancelled() => return Outcome::Interrupted,
    };
    finish(app, live, built).await
}

/// Makes a boot snapshot again.
pub(super) async fn rebuild(
    app: &App,
    live: &LiveOperation,
    snapshot: &str,
    configuration: &CreateRuntimeSnapshot,
) -> Outcome {
    let spec = match machine_spec(app, configuration) {
        Ok(spec) => spec,
        Err(error) => return Outcome::failed(crate::problems::invalid_field(&error)),
    };
    let Ok(id) = SnapshotId::try_from(snapshot.to_owned()) else { return Outcome::Cancelled };
    let rebuilt = async {
        match app.engine().snapshots().read(&id) {
            Ok(old) => boot_snapshot::rebuild(app.engine(), &old, &spec).await,
            // An earlier manager has removed it.
            Err(_) => boot_snapshot::prepare(app.engine(), &spec).await,
        }
    };
    let rebuilt = tokio::select! {
        rebuilt = rebuilt => rebuilt,
        () = app.end().cancelled() => return Outcome::Interrupted,
    };
    finish(app, live, rebuilt).await
}

async fn finish(app: &App, live: &LiveOperation, made: Result<Snapshot, BootSnapshotError>) -> Outcome {
    match made {
        Ok(snapshot) => {
            live.name_resource(snapshot.manifest.id.as_str());
            let item = runtime_snapshots::item(app, &snapshot).await;
            Outcome::Produced(serde_json::to_value(item).unwrap_or_default())
        }
        Err(error) => Outcome::failed(crate::problems::boot_problem(&error)),
    }
}
