//! From a snapshot to a machine of its own: a chain of stages as in
//! [`create`](crate::create), each undone by its drop.
//!
//! `Planned` (judged, verified; id, name and network taken) -> `Restored`
//! (disk, QEMU with the saved state) -> `Identified` (the guest answers to its
//! new name, its workload stands still) -> `Running`.

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
pub(crate) use identified::Identified;
pub(crate) use restored::add_layer_file;

/// Makes a copy whose workload stands still. Dropping the future undoes what
/// was done so far; call it on a thread that lives as long as the copy shall.
pub(crate) async fn clone(engine: &Engine, request: &CloneRequest) -> Result<Identified, StartError> {
    let planned = planned::plan(engine, request).map_err(|error| error.at(Stage::Load))?;
    let restored = planned.restore(engine).await.map_err(|error| match error {
        StageError::SnapshotLoad(_) => error.at(Stage::Load),
        _ => error.at(Stage::Launch),
    })?;
    restored.identify(engine).await
}

/// Makes the stencil of a snapshot, whatever failed before.
///
/// # Errors
/// When it fails once more, which is remembered.
pub(crate) async fn make_stencil(engine: &Engine, snapshot: &SnapshotId) -> Result<(), StageError> {
    restored::make_stencil(engine, planned::load_source(engine, snapshot)?).await
}
