//! `rm`: removes a machine and all of its files.

use std::time::Duration;

use tokio::time::timeout;

use super::{ActError, StopOptions, end, stop};
use crate::Engine;
use crate::control::StopPurpose;
use crate::machine::{Action, Decision, Found, Phase, Removal, decide};

/// Removes the machine. With `force` a running machine is stopped first, with `grace` seconds between the
/// stop signal and SIGKILL; none by default.
///
/// # Errors
/// If the machine runs and removal is not forced, or if it does not end.
pub async fn remove(
    engine: &Engine,
    machine: &Found,
    force: bool,
    grace: Option<u32>,
) -> Result<(), ActError> {
    let registry = engine.registry();
    let mut machine = machine.clone();
    loop {
        let phase = if machine.supervised { machine.record.phase() } else { Phase::Exited };
        let decision = decide(phase, Action::Remove { force })
            .map_err(|refusal| ActError::Refused { name: machine.record.name.clone(), refusal })?;
        if decision == Decision::StopFirst {
            stop_or_kill(engine, &machine, grace.unwrap_or(0)).await?;
        }
        // The supervisor reports the exit shortly before it has finished cleaning up.
        end::wait_until_unowned(engine, &machine, end::FINISH_TIMEOUT).await?;
        let record = &machine.record;
        let removed = registry.remove_unsupervised(&record.id);
        match removed.map_err(|source| ActError::Remove { name: record.name.to_string(), source })? {
            Removal::Removed => {
                engine.events().record(record, "remove", &[]);
                return Ok(());
            }
            // With --rm, or when the creation failed, the supervisor has removed it.
            Removal::Missing => return Ok(()),
            // It was started in the meantime.
            Removal::Supervised => {}
        }
        let Some(found) = registry.read(&machine.record.id) else { return Ok(()) };
        machine = found;
    }
}

/// Stops the machine; if that fails, kills its supervisor.
async fn stop_or_kill(engine: &Engine, machine: &Found, grace: u32) -> Result<(), ActError> {
    let stop_timeout = Duration::from_secs(grace.into()) + end::FINISH_TIMEOUT + end::UNDO_TIMEOUT;
    match timeout(
        stop_timeout,
        stop(engine, machine, StopOptions { timeout: Some(grace), purpose: StopPurpose::User }),
    )
    .await
    {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(component = "remove", machine = %machine.record.name, %error, "cannot stop it, killing its supervisor");
            end::kill_supervisor(engine, machine).await
        }
        Err(_) => end::kill_supervisor(engine, machine).await,
    }
}

/// Removes a machine whose record cannot be read, by the name of its directory.
///
/// # Errors
/// If its supervisor still runs, or the directory cannot be removed.
pub fn remove_unreadable(engine: &Engine, id: &str) -> Result<(), ActError> {
    let registry = engine.registry();
    match registry.remove_unreadable(id) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ActError::Unreadable { id: id.to_owned() }),
        Err(source) => Err(ActError::Remove { name: id.to_owned(), source }),
    }
}
