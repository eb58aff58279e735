//! Starts a clone from a snapshot: a chain of stages as in [`create`](crate::create), each undone by its drop.
//!
//! `Planned` (snapshot read and verified; id, name and network claimed) -> `Restored` (disk linked, VMM restored
//! from the saved state or a stencil, vCPUs paused) -> `Identified` (the guest has its new identity, its workload is
//! frozen) -> `Running`.

mod from_disk;
mod identified;
mod planned;
mod publish;
mod restored;
mod warm_up;
mod warm_up_program;

use crate::Engine;
use crate::id::SnapshotId;
use crate::launch_request::CloneRequest;
use crate::stage::{Stage, StageError, StartError};
pub(crate) use from_disk::{is_disk_only, start_from_disk};
pub(crate) use identified::Identified;
pub(crate) use publish::publish_one;

/// Starts a clone whose workload is frozen. Dropping the future undoes what was done so far. Call it on a thread
/// that lives as long as the clone: the VMM is killed when that thread ends.
pub(crate) async fn clone(engine: &Engine, request: &CloneRequest) -> Result<Identified, StartError> {
    let planned = planned::plan(engine, request).map_err(|error| match error {
        StageError::Claim(_) => error.at(Stage::Plan),
        _ => error.at(Stage::Load),
    })?;
    let restored = planned.restore(engine).await.map_err(|error| match error {
        StageError::SnapshotLoad(_) => error.at(Stage::Load),
        _ => error.at(Stage::Launch),
    })?;
    restored.identify(engine).await
}

/// Builds the stencil of a snapshot, regardless of earlier failures.
///
/// # Errors
/// If it fails again. The failure is recorded.
pub(crate) async fn build_stencil(engine: &Engine, snapshot: &SnapshotId) -> Result<(), StageError> {
    restored::build_stencil(engine, planned::load_source(engine, snapshot)?).await
}
