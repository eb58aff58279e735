//! Starts, stops and removes machines that exist.

use mimeo_engine::MachineId;
use mimeo_engine::act::{self, ActError, StopOptions};
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
    let engine = app.engine().clone();
    let started = act::start_observed(&engine, &found, |progress| create::report(live, progress));
    tokio::select! {
        result = started => outcome(result.map(drop)),
        () = live.cancel.cancelled() => Outcome::Cancelled,
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}

/// Stops a machine.
pub(super) async fn stop(app: &App, machine: &str, timeout: Option<u32>) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    outcome(act::stop(app.engine(), &found, StopOptions { timeout, purpose: StopPurpose::User }).await)
}

/// Stops a machine and starts it again.
pub(super) async fn restart(app: &App, machine: &str, timeout: Option<u32>) -> Outcome {
    let Some(found) = find(app, machine) else { return gone() };
    outcome(act::restart(app.engine(), &found, timeout).await)
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
    outcome(act::remove(app.engine(), &found, true, timeout).await)
}
