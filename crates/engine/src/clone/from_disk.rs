//! Starts a machine from a snapshot that has a disk and no memory: a start like that of a stopped machine, with a disk over
//! the snapshot's layers.

use super::planned::{self, CloneSource};
use super::restored::give_disks;
use crate::Engine;
use crate::create::{Running, start_claimed};
use crate::launch_request::{CloneRequest, HoldPolicy};
use crate::snapshot::{LoadError, Snapshot};
use crate::stage::{Stage, StageError, StartError};

/// Returns whether clones of the snapshot are started from its disk alone. A snapshot that cannot be read is not one of
/// these: the start reports why.
pub(crate) fn is_disk_only(engine: &Engine, request: &CloneRequest) -> bool {
    engine.snapshots().read(&request.snapshot).is_ok_and(|snapshot| snapshot.manifest.is_disk_only())
}

/// Starts the machine. Dropping the future undoes what was done so far.
pub(crate) async fn start_from_disk(engine: &Engine, request: &CloneRequest) -> Result<Running, StartError> {
    match try_start(engine, request).await {
        // The first guest on this host's KVM failed; the next start does without KVM.
        Err(StartError { source: StageError::Kvm { .. }, .. }) => try_start(engine, request).await,
        done => done,
    }
}

async fn try_start(engine: &Engine, request: &CloneRequest) -> Result<Running, StartError> {
    let at_load = |error: StageError| error.at(Stage::Load);
    if request.hold != HoldPolicy::Never || request.serve.is_some() {
        return Err(at_load(LoadError::DiskOnly.into()));
    }
    let CloneSource { snapshot, machine, driver, .. } =
        planned::load_disk(engine, &request.snapshot).map_err(at_load)?;
    let spec = planned::clone_spec(&machine, &request.overrides);
    let claim = engine.registry().claim_as(spec, request.overrides.id.clone(), |record| {
        planned::inherit_disks(record, &machine, driver.as_ref());
        record.source_env = machine.requested_env();
        record.adopt_source_env();
        record.image = machine.image;
        record.system = machine.system;
    });
    let claim = claim.map_err(|error| StageError::from(error).at(Stage::Plan))?;
    give_disks(driver.as_ref(), &snapshot, &claim).map_err(at_load)?;
    start_claimed(engine, claim).await
}

/// Refuses a snapshot without memory where clones are restored from memory.
pub(super) fn refuse_disk_only(snapshot: &Snapshot) -> Result<(), LoadError> {
    if snapshot.manifest.is_disk_only() { Err(LoadError::DiskOnly) } else { Ok(()) }
}
