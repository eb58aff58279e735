//! `wait`: waits until a machine has exited.

use std::time::Duration;

use tokio::time::sleep;

use super::{ActError, end};
use crate::control::{ConnectError, ControlClient, ControlError};
use crate::machine::{Exit, Found, Phase};
use crate::{Engine, sweep};

/// Interval between checks of a machine that is still being created.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until the machine has exited, and returns how it did.
///
/// # Errors
/// If the machine is removed, or its creation fails.
pub async fn wait(engine: &Engine, machine: &Found) -> Result<Exit, ActError> {
    let gone = || ActError::Gone { name: machine.record.name.clone() };
    let mut machine = machine.clone();
    loop {
        if let Some(exit) = machine.record.exit() {
            return Ok(exit.clone());
        }
        if !machine.supervised {
            // A machine that was never started needs no sweep. Otherwise the supervisor was killed, and the sweep
            // writes that to the record.
            if machine.record.phase().is_live() {
                sweep(engine)?;
            }
        } else if let Some(exit) = wait_for_exit(engine, &machine).await? {
            return Ok(exit);
        }
        sleep(POLL_INTERVAL).await;
        machine = engine.registry().read(&machine.record.id).ok_or_else(gone)?;
    }
}

/// Waits until the supervisor of a machine that has exited has cleaned up, and with `--rm` removed the machine.
///
/// # Errors
/// If it does not end in time.
pub async fn wait_until_finished(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    match engine.registry().read(&machine.record.id) {
        Some(found) if found.record.phase() == Phase::Exited => {
            end::wait_until_unowned(engine, &found, end::FINISH_TIMEOUT).await
        }
        _ => Ok(()),
    }
}

/// Waits for the supervisor's report of the exit; `None` if the supervisor cannot be reached yet or has ended.
async fn wait_for_exit(engine: &Engine, machine: &Found) -> Result<Option<Exit>, ActError> {
    let client = match ControlClient::connect(engine.home(), machine).await {
        Ok(client) => client,
        Err(ConnectError::NotRunning { .. } | ConnectError::Hello { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match client.wait().await {
        Ok(exit) => Ok(Some(exit)),
        Err(ControlError::Link { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
