//! `stop`: ends a machine in good order.

use super::{ActError, ask, end};
use crate::Engine;
use crate::control::ControlRequest;
use crate::machine::{Found, Phase};

/// Ends the machine: its stop signal, and SIGKILL after `timeout` seconds (the
/// machine's own when absent). One that has ended is no error.
///
/// # Errors
/// When it does not end.
pub async fn stop(engine: &Engine, machine: &Found, timeout: Option<u32>) -> Result<(), ActError> {
    if !machine.owned {
        return Ok(());
    }
    let asked = match machine.record.phase() {
        Phase::Creating => return end::interrupt(engine, machine).await,
        Phase::Exited => false,
        Phase::Running | Phase::Paused | Phase::Stopping => {
            ask(engine, machine, &ControlRequest::Stop { timeout }).await?
        }
    };
    if asked { Ok(()) } else { end::until_unowned(engine, machine, end::FINISH).await }
}
