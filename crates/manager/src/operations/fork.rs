//! Forks a machine: starts clones of it, all or none.

use std::time::Duration;

use mimeo_engine::MachineId;
use mimeo_engine::act::{self, ForkError, ForkRequest, Forked};
use mimeo_engine::launch_request::StartFailureKind;
use mimeo_engine::machine::CloneOverrides;
use mimeo_manager_api::Problem;

use super::clones::{self, CloneEnd};
use super::finish::Outcome;
use super::{clone, lifecycle};
use crate::App;
use crate::database::DatabaseError;
use crate::live::LiveOperation;
use crate::problems;

/// Pause before the fork is repeated, while the clones of an earlier attempt are still undone.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Starts the clones whose rows exist. The operation's id is the key of the fork: one that an earlier manager has carried out
/// is not repeated.
pub(super) async fn fork(app: &App, live: &LiveOperation, source: &str, machines: Vec<String>) -> Outcome {
    let key = live.snapshot().id;
    if clones::pending(&clones::results(live)).is_empty() {
        // An earlier manager has carried it out.
        act::forget_fork(app.engine(), &key);
        return clones::outcome(live);
    }
    let forked = match all_overrides(app, &machines).await {
        Ok(overrides) => tokio::select! {
            forked = fork_once(app, live, source, overrides) => forked,
            () = app.end().cancelled() => return Outcome::Interrupted,
        },
        Err(problem) => Err(problem),
    };
    let ends = match forked {
        Ok(forked) => ends(live, machines, forked),
        Err(problem) => undone(machines, &problem),
    };
    if clones::record(app, live, &ends).await {
        act::forget_fork(app.engine(), &key);
    }
    clones::outcome(live)
}

fn ends(live: &LiveOperation, machines: Vec<String>, forked: Forked) -> Vec<(String, CloneEnd)> {
    clones::show_pause(live, forked.pause_micros);
    let outcomes = forked.clones.into_iter().map(|clone| clone.outcome.map(drop));
    machines.into_iter().zip(outcomes.map(CloneEnd::from)).collect()
}

/// There are no clones.
fn undone(machines: Vec<String>, problem: &Problem) -> Vec<(String, CloneEnd)> {
    let reason = format!("the fork failed: {problem}");
    let end = |machine| (machine, CloneEnd::Undone(problem.clone(), reason.clone()));
    machines.into_iter().map(end).collect()
}

async fn all_overrides(app: &App, machines: &[String]) -> Result<Vec<CloneOverrides>, Problem> {
    let failed = |error: DatabaseError| crate::api_error::ApiError::from(error).problem().clone();
    let mut all = Vec::new();
    for machine in machines {
        let row = app.database().machine(machine).await.map_err(failed)?;
        let row = row.ok_or_else(|| Problem::new(500, "internal", "the record of a clone is missing"))?;
        all.push(clone::overrides(&row).map_err(|error| problems::invalid_field(&error))?);
    }
    Ok(all)
}

async fn fork_once(
    app: &App,
    live: &LiveOperation,
    source: &str,
    overrides: Vec<CloneOverrides>,
) -> Result<Forked, Problem> {
    let key = Some(live.snapshot().id);
    loop {
        let found =
            MachineId::try_from(source.to_owned()).ok().and_then(|id| app.engine().registry().read(&id));
        let found = found.ok_or_else(lifecycle::gone_problem)?;
        let request = ForkRequest { overrides: overrides.clone(), key: key.clone() };
        match act::fork(app.engine(), &found, request).await {
            Err(ForkError::Clone { source, .. }) if source.kind() == StartFailureKind::IdTaken => {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            done => return done.map_err(|error| problems::fork_problem(&error)),
        }
    }
}
