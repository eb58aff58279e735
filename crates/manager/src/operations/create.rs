//! Creates a machine.

use std::time::Duration;

use mimeo_engine::act::{self, RunRequest, SpawnError, Starting};
use mimeo_engine::launch_request::{MachineInfo, StartFailureKind};
use mimeo_engine::machine::PullPolicy;
use mimeo_engine::{MachineId, MachineSpec, Record, StartProgress};
use mimeo_manager_api::{Failure, Problem, Progress};

use super::finish::Outcome;
use super::{clone, pull};
use crate::App;
use crate::convert;
use crate::live::LiveOperation;
use crate::observe;
use crate::problems;
use crate::secrets::Secrets;

/// How often the stage of a start that takes long is recorded.
const STAGE_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before a machine is claimed again, while the supervisor of an earlier attempt still undoes it.
const CLAIM_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Creates the machine by its recorded request.
pub(super) async fn create(
    app: &App,
    live: &LiveOperation,
    machine: &str,
    start: bool,
    has_login: bool,
    secrets: Secrets,
) -> Outcome {
    let row = match app.database().machine(machine).await {
        Ok(Some(row)) => row,
        Ok(None) => return Outcome::Cancelled,
        Err(error) => return Outcome::from(error),
    };
    let Some(spec) = &row.spec else { return Outcome::Cancelled };
    if let Some(snapshot) = &spec.snapshot {
        return clone::create(app, live, &row, snapshot, secrets.reservation).await;
    }
    // The manager made the id.
    let Ok(id) = MachineId::try_from(machine.to_owned()) else { return Outcome::Cancelled };
    loop {
        // An earlier manager may have started it.
        if let Some(found) = app.engine().registry().read(&id).filter(|found| is_made(&found.record)) {
            tracing::debug!(component = "operations", machine = %found.record.name, "it exists already");
            return Outcome::Succeeded;
        }
        let spec = match convert::machine_spec(spec) {
            Ok(spec) => spec,
            Err(error) => return Outcome::failed(problems::invalid_field(&error)),
        };
        let registry_login = secrets.registry_login.clone();
        if has_login && registry_login.is_none() && is_pulled(app, &spec) {
            return failed(pull::login_lost());
        }
        let request = RunRequest { spec, id: Some(id.clone()), registry_login };
        match attempt(app, live, machine, request, start).await {
            Attempt::Done(outcome) => return outcome,
            Attempt::IdTaken => tokio::time::sleep(CLAIM_RETRY_DELAY).await,
        }
    }
}

/// A creation that did not come to the start: the machine's item shows why, too.
fn failed(problem: Problem) -> Outcome {
    let failure = Failure {
        stage: None,
        code: problem.code.clone(),
        message: problem.detail.clone(),
        console: Vec::new(),
    };
    Outcome::Failed(Box::new(problem), Some(Box::new(failure)))
}

/// Whether a start of this machine pulls its image.
fn is_pulled(app: &App, spec: &MachineSpec) -> bool {
    let is_stored = || {
        app.engine().images().is_ok_and(|store| store.find(&spec.image).is_ok_and(|found| found.is_some()))
    };
    match spec.pull {
        PullPolicy::Never => false,
        PullPolicy::Missing | PullPolicy::Newer => !is_stored(),
        PullPolicy::Always => true,
    }
}

/// Whether the machine's creation is complete.
fn is_made(record: &Record) -> bool {
    record.phase() != mimeo_engine::machine::Phase::Creating
}

enum Attempt {
    Done(Outcome),
    /// The supervisor of an earlier attempt still undoes it.
    IdTaken,
}

async fn attempt(
    app: &App,
    live: &LiveOperation,
    machine: &str,
    request: RunRequest,
    start: bool,
) -> Attempt {
    let begun = if start {
        act::begin_run(app.engine(), request).await
    } else {
        act::begin_create(app.engine(), request).await
    };
    let result = match begun {
        Ok(starting) => finish_start(app, live, machine, starting).await,
        Err(error) => Some(Err(error)),
    };
    match result {
        Some(Ok(_)) => Attempt::Done(Outcome::Succeeded),
        Some(Err(error)) if error.kind() == StartFailureKind::IdTaken => Attempt::IdTaken,
        Some(Err(error)) => Attempt::Done(Outcome::from(&error)),
        None if app.end().is_cancelled() => Attempt::Done(Outcome::Interrupted),
        None => Attempt::Done(Outcome::Cancelled),
    }
}

/// Waits for the start; `None` if it was cancelled, and undone.
async fn finish_start(
    app: &App,
    live: &LiveOperation,
    machine: &str,
    mut starting: Starting,
) -> Option<Result<MachineInfo, SpawnError>> {
    loop {
        tokio::select! {
            result = starting.finish(|progress| report(live, progress)) => return Some(result),
            () = tokio::time::sleep(STAGE_INTERVAL) => observe::record_stage(app, machine, live).await,
            () = live.cancel.cancelled() => return starting.abandon().await.map(Ok),
            () = app.end().cancelled() => return starting.abandon().await.map(Ok),
        }
    }
}

/// Shows what the supervisor reports.
pub(super) fn report(live: &LiveOperation, progress: StartProgress) {
    match progress {
        StartProgress::Stage { stage, milliseconds } => {
            live.stage_ended(stage.clone(), milliseconds);
        }
        StartProgress::Pull(pull) => {
            let total = Some(pull.total).filter(|total| *total > 0);
            live.progress("image", Progress { done: pull.done, total, unit: "bytes".to_owned() });
        }
    }
}
