//! `stop`: stops a machine.

use tokio::time::{Instant, sleep};

use super::{ActError, end, send_request};
use crate::Engine;
use crate::control::{ControlRequest, StopPurpose};
use crate::machine::{Found, Phase, RestartPolicy};

/// How to stop a machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct StopOptions {
    /// Seconds between the stop signal and SIGKILL; the machine's own setting if absent.
    pub timeout: Option<u32>,
    /// Why.
    pub purpose: StopPurpose,
}

/// Stops the machine: sends the stop signal, and SIGKILL after a timeout. A machine that has exited is no error.
///
/// # Errors
/// If the machine does not end.
pub async fn stop(engine: &Engine, machine: &Found, options: StopOptions) -> Result<(), ActError> {
    let StopOptions { timeout, purpose } = options;
    let mut machine = machine.clone();
    let deadline = Instant::now() + end::FINISH_TIMEOUT;
    while machine.supervised {
        match machine.record.phase() {
            Phase::Creating | Phase::Restarting => {
                end::terminate_supervisor(engine, &machine).await?;
                break;
            }
            Phase::Created | Phase::Exited => {
                end::wait_until_unowned(engine, &machine, end::FINISH_TIMEOUT).await?;
                break;
            }
            Phase::Running | Phase::Paused | Phase::DiskError | Phase::Stopping => {
                if send_request(engine, &machine, &ControlRequest::Stop { timeout, purpose }).await? {
                    return Ok(());
                }
            }
        }
        // The machine has just ended, or is starting again.
        if Instant::now() > deadline {
            return Err(end::not_ended(&machine, end::FINISH_TIMEOUT));
        }
        sleep(end::POLL_INTERVAL).await;
        let Some(found) = engine.registry().read(&machine.record.id) else { return Ok(()) };
        machine = found;
    }
    if purpose == StopPurpose::User { mark_stopped_by_user(engine, &machine) } else { Ok(()) }
}

fn mark_stopped_by_user(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    if machine.record.spec.restart == RestartPolicy::No {
        return Ok(());
    }
    Ok(engine.registry().mark_stopped_by_user(&machine.record.id)?)
}
