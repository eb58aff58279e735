//! Starts, stops and removes machines that exist.

use mimeo_engine::MachineId;
use mimeo_engine::act::{self, ActError, StopOptions};
use mimeo_engine::cause::chain;
use mimeo_engine::control::StopPurpose;
use mimeo_engine::machine::Found;

use mimeo_manager_api::Problem;

use super::create;
use super::finish::Outcome;
use crate::App;
use crate::live::LiveOperation;
use crate::problems;

fn find(app: &App, machine: &str) -> Option<Found> {
    let id = MachineId::try_from(machine.to_owned()).ok()?;
    app.engine().registry().read(&id)
}

/// The result of an act on a machine.
fn outcome(result: Result<(), ActError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Succeeded,
        Err(error) => Outcome::failed(problems::act_problem(&error)),
    }
}

fn gone() -> Outcome {
    Outcome::failed(gone_problem())
}

/// The machine of an operation was removed.
pub(super) fn gone_problem() -> Problem {
    Problem::new(410, "machine-deleted", "the machine no longer exists")
}

/// Starts a machine.
pub(super) async fn start(app: &App, live: &LiveOperation, machine: &str) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    let report = |progress| create::report(live, progress);
    tokio::select! {
        started = act::start_unless(app.engine(), &found, report, live.cancel.cancelled()) => match started {
            Ok(Some(_)) => Outcome::Succeeded,
            Ok(None) => Outcome::Cancelled,
            Err(error) => Outcome::failed(problems::act_problem(&error)),
        },
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}

/// Stops a machine.
pub(super) async fn stop(app: &App, live: &LiveOperation, machine: &str, timeout: Option<u32>) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    stop_for(app, live, &found, StopOptions { timeout, purpose: StopPurpose::User }).await
}

/// Stops a machine and starts it again.
pub(super) async fn restart(app: &App, live: &LiveOperation, machine: &str, timeout: Option<u32>) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    match stop_for(app, live, &found, StopOptions { timeout, purpose: StopPurpose::Restart }).await {
        Outcome::Succeeded => start(app, live, machine).await,
        other => other,
    }
}

/// Stops a machine. Its supervisor goes on with that when nobody waits for it any more: a removal takes over, and the next
/// manager waits again.
async fn stop_for(app: &App, live: &LiveOperation, found: &Found, options: StopOptions) -> Outcome {
    tokio::select! {
        stopped = act::stop(app.engine(), found, options) => outcome(stopped),
        () = live.cancel.cancelled() => Outcome::Cancelled,
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}

/// Stops a machine's vCPUs.
pub(super) async fn pause(app: &App, machine: &str) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    outcome(act::pause(app.engine(), &found).await)
}

/// Resumes a machine's vCPUs.
pub(super) async fn resume(app: &App, machine: &str) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    outcome(act::unpause(app.engine(), &found).await)
}

/// Removes a machine. One that does not exist (any more) is no error.
pub(super) async fn delete(app: &App, machine: &str, timeout: Option<u32>) -> Outcome {
    let Some(found) = find(app, machine) else { return Outcome::Succeeded };
    tokio::select! {
        removed = act::remove(app.engine(), &found, true, timeout) => outcome(removed),
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}

/// Shortens the time that a machine has before it is killed, while its removal waits for its end.
pub(super) async fn hasten(app: &App, machine: &str, timeout: Option<u32>) {
    let Some(found) = find(app, machine) else { return };
    let options = StopOptions { timeout: Some(timeout.unwrap_or(0)), purpose: StopPurpose::User };
    tokio::select! {
        stopped = act::stop(app.engine(), &found, options) => {
            if let Err(error) = stopped {
                tracing::warn!(component = "operations", machine, error = chain(&error), "cannot hasten its end");
            }
        }
        () = app.end().cancelled() => {}
    }
}
