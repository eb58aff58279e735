//! `pause` and `unpause`: stop and resume a machine's vCPUs.

use super::{ActError, send_request};
use crate::Engine;
use crate::control::ControlRequest;
use crate::machine::{Action, Found, Refusal, decide};

/// Stops the machine's vCPUs.
///
/// # Errors
/// If the machine does not run, or its supervisor cannot be reached.
pub async fn pause(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    change_phase(engine, machine, Action::Pause, &ControlRequest::Pause).await
}

/// Resumes the machine's vCPUs.
///
/// # Errors
/// If the machine is not paused, or its supervisor cannot be reached.
pub async fn unpause(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    change_phase(engine, machine, Action::Unpause, &ControlRequest::Unpause).await
}

async fn change_phase(
    engine: &Engine,
    machine: &Found,
    action: Action,
    request: &ControlRequest,
) -> Result<(), ActError> {
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    decide(machine.record.phase(), action).map_err(refused)?;
    match send_request(engine, machine, request).await? {
        true => Ok(()),
        false => Err(refused(Refusal::NotRunning)),
    }
}
