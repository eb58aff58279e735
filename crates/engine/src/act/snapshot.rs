//! `snapshot create`: takes a snapshot of a running machine.

use super::snapshot_disk::snapshot_disk;
use super::{ActError, end};
use crate::Engine;
use crate::control::{ControlClient, SavedSnapshot};
use crate::id::SnapshotId;
use crate::machine::{Action, Found, MachineName, Phase, decide};
use crate::snapshot::Kind;

/// Takes a snapshot of the machine: of its memory, devices and disk if it runs, otherwise of its disk.
///
/// # Errors
/// If the machine cannot be saved, or the tag is taken. The machine continues to run in
/// any case.
pub async fn snapshot(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
    kind: Kind,
) -> Result<SavedSnapshot, ActError> {
    take(engine, machine, tag, kind, None).await
}

/// Takes a snapshot with an id that the caller has chosen. A repeated request is answered with the snapshot that the first
/// one has saved.
///
/// # Errors
/// As [`snapshot`].
pub async fn snapshot_as(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
    id: SnapshotId,
) -> Result<SavedSnapshot, ActError> {
    take(engine, machine, tag, Kind::Snapshot, Some(id)).await
}

async fn take(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
    kind: Kind,
    id: Option<SnapshotId>,
) -> Result<SavedSnapshot, ActError> {
    let machine = &end::settle(engine, machine).await?;
    if !machine.record.phase().is_live() {
        return snapshot_disk(engine, machine, tag, id);
    }
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    // The supervisor knows whether the disk can be written again.
    if machine.record.phase() != Phase::DiskError {
        decide(machine.record.phase(), Action::Snapshot).map_err(refused)?;
    }
    let client = ControlClient::connect(engine.home(), machine).await?;
    Ok(client.snapshot(tag, kind, id).await?)
}
