//! `snapshot create`: keeps a copy of a machine that goes on.

use super::ActError;
use crate::Engine;
use crate::control::{ControlClient, SavedSnapshot};
use crate::machine::{Action, Found, MachineName, decide};
use crate::snapshot::Kind;

/// Keeps a snapshot of the machine.
///
/// # Errors
/// When it does not run, cannot be copied, or the tag is taken. The machine
/// goes on all the same.
pub async fn snapshot(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
    kind: Kind,
) -> Result<SavedSnapshot, ActError> {
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    decide(machine.record.phase(), Action::Snapshot).map_err(refused)?;
    let client = ControlClient::connect(engine.home(), machine).await?;
    Ok(client.snapshot(tag, kind).await?)
}
