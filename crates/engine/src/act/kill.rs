//! `kill`: sends a machine's container a signal.

use super::{ActError, StopOptions, end, send_request, stop};
use crate::Engine;
use crate::control::{ControlRequest, StopPurpose};
use crate::machine::{Action, Found, Phase, Refusal, decide};

/// Signals that end a process by default. A machine that is still being created has no container that
/// could handle them.
const FATAL_SIGNALS: [i32; 5] = [1, 2, 3, 9, 15];

/// SIGKILL needs no handler: it stops a paused machine.
const SIGKILL: i32 = 9;

/// Sends the machine's container a signal.
///
/// # Errors
/// If the machine does not run, or its supervisor cannot be reached.
pub async fn kill(engine: &Engine, machine: &Found, signal: i32) -> Result<(), ActError> {
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    if !machine.supervised {
        return Err(refused(Refusal::NotRunning));
    }
    if machine.record.phase() == Phase::Creating && FATAL_SIGNALS.contains(&signal) {
        return end::terminate_supervisor(engine, machine).await;
    }
    let is_paused = matches!(machine.record.phase(), Phase::Paused | Phase::DiskError);
    if is_paused && signal == SIGKILL {
        return stop(engine, machine, StopOptions { timeout: Some(0), purpose: StopPurpose::User }).await;
    }
    // The supervisor knows whether the disk can be written again.
    if machine.record.phase() != Phase::DiskError {
        decide(machine.record.phase(), Action::Signal).map_err(refused)?;
    }
    match send_request(engine, machine, &ControlRequest::Signal { signal }).await? {
        true => Ok(()),
        false => Err(refused(Refusal::NotRunning)),
    }
}
