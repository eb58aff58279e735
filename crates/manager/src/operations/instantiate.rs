//! Starts clones of a snapshot. Each succeeds or fails by itself.

use std::sync::Arc;
use std::time::Duration;

use mimeo_engine::act::{self, SpawnError};
use mimeo_engine::cause::chain;
use mimeo_engine::machine::Phase;
use mimeo_engine::snapshot_server::Reservation;
use mimeo_engine::{MachineId, SnapshotId};
use mimeo_manager_api::Progress;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::clone;
use super::clones::{self, CloneEnd};
use super::finish::Outcome;
use crate::App;
use crate::database::{DatabaseError, Desired, MachineRow};
use crate::live::LiveOperation;
use crate::problems;

/// Pause between two looks at a clone that is being undone.
const UNDO_POLL: Duration = Duration::from_millis(100);

/// Starts the clones whose rows exist, those that are reserved in a pool first.
pub(super) async fn instantiate(
    app: &App,
    live: &LiveOperation,
    snapshot: &str,
    machines: Vec<String>,
    reservation: Option<Reservation>,
) -> Outcome {
    let Ok(snapshot) = SnapshotId::try_from(snapshot.to_owned()) else { return Outcome::Cancelled };
    if let Some(reservation) = reservation {
        release(app, live, reservation).await;
    }
    let mut tasks = begin_all(app, live, &snapshot);
    loop {
        show_progress(live);
        tokio::select! {
            done = tasks.join_next() => match done {
                Some(Ok(end)) => {
                    clones::record(app, live, &[end]).await;
                }
                // Nothing aborts them.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => return clones::outcome(live),
            },
            () = live.cancel.cancelled() => break,
            () = app.end().cancelled() => {
                tasks.shutdown().await;
                return Outcome::Interrupted;
            }
        }
    }
    tokio::select! {
        // Each start has noticed it, and ends when its clone is undone.
        () = async { while tasks.join_next().await.is_some() {} } => undo(app, live, &machines).await,
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}

/// Starts the clones of a pool. Those that have died there are started with the others.
async fn release(app: &App, live: &LiveOperation, reservation: Reservation) {
    let (mut turns, mut ids, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for id in reservation.ids.iter().map(ToString::to_string) {
        turns.push(app.turns().take(&id).await);
        let Ok(Some(row)) = pending_row(app, live, &id).await else { continue };
        let Ok(overrides) = clone::overrides(&row) else { continue };
        ids.push(id);
        requests.push(overrides);
    }
    let outcomes = clone::release(reservation, requests).await;
    let is_decided =
        |(_, outcome): &(String, Result<(), SpawnError>)| !matches!(outcome, Err(SpawnError::Gone));
    let decided = ids.into_iter().zip(outcomes).filter(is_decided);
    let ends: Vec<_> = decided.map(|(id, outcome)| (id, CloneEnd::from(outcome))).collect();
    clones::record(app, live, &ends).await;
}

/// Starts a task for each clone whose fate is undecided.
fn begin_all(app: &App, live: &LiveOperation, snapshot: &SnapshotId) -> JoinSet<(String, CloneEnd)> {
    // More starts at once than the host has CPUs would only slow each other down.
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let permits = Arc::new(Semaphore::new(cpus + 1));
    let mut tasks = JoinSet::new();
    for machine in clones::pending(&clones::results(live)) {
        let (app, live, snapshot, permits) = (app.clone(), live.clone(), snapshot.clone(), permits.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let _turn = app.turns().take(&machine).await;
            let end = start(&app, &live, &snapshot, &machine).await;
            (machine, end)
        });
    }
    tasks
}

async fn start(app: &App, live: &LiveOperation, snapshot: &SnapshotId, machine: &str) -> CloneEnd {
    let row = match pending_row(app, live, machine).await {
        Ok(Some(row)) => row,
        // It was removed before it was made.
        Ok(None) => return CloneEnd::cancelled(),
        Err(error) => {
            let problem = crate::api_error::ApiError::from(error).problem().clone();
            return CloneEnd::Undone(problem, "the manager's database failed".to_owned());
        }
    };
    match clone::overrides(&row) {
        Ok(overrides) => {
            let started = clone::start(app, live, snapshot, overrides).await;
            started.map_or_else(CloneEnd::cancelled, CloneEnd::from)
        }
        Err(error) => CloneEnd::Undone(problems::invalid_field(&error), chain(&error)),
    }
}

/// The row of a clone that this operation is to start.
async fn pending_row(
    app: &App,
    live: &LiveOperation,
    machine: &str,
) -> Result<Option<MachineRow>, DatabaseError> {
    let operation = live.snapshot().id;
    let is_own = |row: &MachineRow| {
        row.desired == Desired::Present && row.item.operation.as_deref() == Some(operation.as_str())
    };
    Ok(app.database().machine(machine).await?.filter(is_own))
}

fn show_progress(live: &LiveOperation) {
    let results = clones::results(live);
    let total = results.clones.len();
    let done = total - clones::pending(&results).len();
    let unit = "machines".to_owned();
    live.progress("clone", Progress { done: done as u64, total: Some(total as u64), unit });
}

/// Removes the clones that were started, and waits until those that were being started are undone.
async fn undo(app: &App, live: &LiveOperation, machines: &[String]) -> Outcome {
    let mut ends = Vec::new();
    for machine in machines {
        let _turn = app.turns().take(machine).await;
        if let Ok(id) = MachineId::try_from(machine.clone()) {
            remove(app, &id).await;
        }
        ends.push((machine.clone(), CloneEnd::cancelled()));
    }
    clones::record(app, live, &ends).await;
    Outcome::Cancelled
}

async fn remove(app: &App, id: &MachineId) {
    while let Some(found) = app.engine().registry().read(id) {
        if found.record.phase() == Phase::Creating {
            tokio::time::sleep(UNDO_POLL).await;
            continue;
        }
        if let Err(error) = act::remove(app.engine(), &found, true, Some(0)).await {
            tracing::warn!(
                component = "operations",
                error = chain(&error),
                "cannot remove a cancelled clone"
            );
        }
        return;
    }
}
