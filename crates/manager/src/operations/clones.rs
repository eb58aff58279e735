//! Records what has become of an operation's clones.

use mimeo_engine::act::SpawnError;
use mimeo_engine::cause::chain;
use mimeo_manager_api::{CloneResult, CloneResults, Failure, Problem};

use super::finish::{Outcome, store};
use crate::App;
use crate::database::DatabaseError;
use crate::live::LiveOperation;
use crate::{observe, problems};

/// What has become of a clone.
#[derive(Debug, Clone)]
pub(super) enum CloneEnd {
    /// It runs.
    Runs,
    /// It could not be started. Its row remains, and says why.
    Failed(Problem, Failure),
    /// There is none, for a reason that does not lie in it.
    Undone(Problem, String),
}

impl From<Result<(), SpawnError>> for CloneEnd {
    fn from(outcome: Result<(), SpawnError>) -> Self {
        match outcome {
            Ok(()) => Self::Runs,
            Err(error) => Self::Failed(problems::start_problem(&error), problems::start_failure(&error)),
        }
    }
}

impl CloneEnd {
    /// It was cancelled.
    pub(super) fn cancelled() -> Self {
        let problem = Problem::new(409, "cancelled", "the operation was cancelled");
        Self::Undone(problem, "its creation was cancelled".to_owned())
    }
}

/// The results so far. Before an operation begins, its result names the clones.
pub(super) fn results(live: &LiveOperation) -> CloneResults {
    let result = live.snapshot().result;
    result.and_then(|result| serde_json::from_value(result).ok()).unwrap_or_default()
}

/// The results of clones that have not begun.
pub(crate) fn undecided(machines: &[String]) -> serde_json::Value {
    let clones = machines.iter().map(|id| CloneResult { id: id.clone(), machine: None, problem: None });
    to_json(&CloneResults { clones: clones.collect(), pause_ms: None })
}

/// The clones whose fate is undecided.
pub(super) fn pending(results: &CloneResults) -> Vec<String> {
    let is_pending = |result: &&CloneResult| result.machine.is_none() && result.problem.is_none();
    results.clones.iter().filter(is_pending).map(|result| result.id.clone()).collect()
}

fn to_json(results: &CloneResults) -> serde_json::Value {
    serde_json::to_value(results).unwrap_or_default()
}

/// Records what has become of these clones. Tries again while the database is unavailable; returns false if the manager ends
/// meanwhile. The next one takes the operation up again, and finds the clones.
pub(super) async fn record(app: &App, live: &LiveOperation, ends: &[(String, CloneEnd)]) -> bool {
    while let Err(error) = try_record(app, live, ends).await {
        tracing::error!(
            component = "operations",
            error = chain(&error),
            "cannot record clones: trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(crate::DATABASE_RETRY_DELAY) => {}
            () = app.end().cancelled() => return false,
        }
    }
    true
}

async fn try_record(
    app: &App,
    live: &LiveOperation,
    ends: &[(String, CloneEnd)],
) -> Result<(), DatabaseError> {
    let mut write = app.database().write_observed().await?;
    let mut operation = live.snapshot();
    let mut results = results(live);
    for (machine, end) in ends {
        let Some(before) = write.machine(machine).await? else { continue };
        let mut row = before.clone();
        if row.item.operation.as_ref() == Some(&operation.id) {
            row.item.operation = None;
        }
        match end {
            CloneEnd::Runs => {}
            CloneEnd::Failed(_, failure) => row.item.failure = Some(failure.clone()),
            CloneEnd::Undone(_, reason) => _ = row.item.ended_reason.get_or_insert_with(|| reason.clone()),
        }
        observe::apply(app, &mut row);
        let item = store(&mut write, row, &before).await?;
        if let Some(result) = results.clones.iter_mut().find(|result| result.id == *machine) {
            (result.machine, result.problem) = match end {
                CloneEnd::Runs => (Some(item), None),
                CloneEnd::Failed(problem, _) | CloneEnd::Undone(problem, _) => (None, Some(problem.clone())),
            };
        }
    }
    let result = to_json(&results);
    live.show_result(result.clone());
    operation.result = Some(result);
    write.store_operation(&operation).await?;
    write.commit().await
}

/// Records, for an operation that has failed unexpectedly, that it has not decided what becomes of its remaining clones. One
/// that runs is kept.
pub(super) async fn record_undecided(app: &App, live: &LiveOperation, problem: &Problem) {
    let end = |machine| (machine, CloneEnd::Undone(problem.clone(), problem.to_string()));
    let ends: Vec<_> = pending(&results(live)).into_iter().map(end).collect();
    if !ends.is_empty() {
        record(app, live, &ends).await;
    }
}

/// The outcome of an operation whose clones are recorded: it has failed if no clone runs.
pub(super) fn outcome(live: &LiveOperation) -> Outcome {
    let results = results(live);
    if !pending(&results).is_empty() {
        // The manager ended before it could record them.
        return Outcome::Interrupted;
    }
    if results.clones.iter().any(|clone| clone.machine.is_some()) {
        return Outcome::Succeeded;
    }
    match results.clones.into_iter().find_map(|clone| clone.problem) {
        Some(problem) => Outcome::failed(problem),
        None => Outcome::Cancelled,
    }
}

/// Shows how long a fork has paused its source.
pub(super) fn show_pause(live: &LiveOperation, micros: u64) {
    let mut results = results(live);
    results.pause_ms = Some(micros as f64 / 1000.0);
    live.show_result(to_json(&results));
}
