//! `snapshot create`: takes a snapshot of a running machine.

use super::snapshot_disk::snapshot_disk;
use super::{ActError, end};
use crate::Engine;
use crate::control::{ControlClient, SavedSnapshot};
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
    let machine = &end::settle(engine, machine).await?;
    if !machine.record.phase().is_live() {
        return snapshot_disk(engine, machine, tag);
    }
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    // The supervisor knows whether the disk can be written again.
    if machine.record.phase() != Phase::DiskError {
        decide(machine.record.phase(), Action::Snapshot).map_err(refused)?;
    }
    let client = ControlClient::connect(engine.home(), machine).await?;
    Ok(client.snapshot(tag, kind).await?)
}
