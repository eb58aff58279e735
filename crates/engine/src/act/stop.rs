//! `stop`: stops a machine.

use super::{ActError, end, send_request};
use crate::Engine;
use crate::control::ControlRequest;
use crate::machine::{Found, Phase};

/// Stops the machine: sends the stop signal, and SIGKILL after `timeout` seconds (default: the machine's own
/// setting). A machine that has exited is no error.
///
/// # Errors
/// If the machine does not end.
pub async fn stop(engine: &Engine, machine: &Found, timeout: Option<u32>) -> Result<(), ActError> {
    if !machine.supervised {
        return Ok(());
    }
    let is_stopped = match machine.record.phase() {
        Phase::Creating => return end::terminate_supervisor(engine, machine).await,
        Phase::Exited => false,
        Phase::Running | Phase::Paused | Phase::Stopping => {
            send_request(engine, machine, &ControlRequest::Stop { timeout }).await?
        }
    };
    if is_stopped { Ok(()) } else { end::wait_until_unowned(engine, machine, end::FINISH_TIMEOUT).await }
}
