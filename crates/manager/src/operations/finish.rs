//! Records the result of an operation.

use jiff::Timestamp;
use mimeo_engine::MachineId;
use mimeo_engine::act::SpawnError;
use mimeo_manager_api::{Failure, Machine, Operation, OperationKind, OperationStatus, Problem, ResourceKind};
use serde_json::json;

use crate::App;
use crate::database::{DatabaseError, EventDraft, MachineRow, Write, resource};
use crate::live::LiveOperation;
use crate::observe;
use crate::problems;

/// How an operation ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was carried out.
    Succeeded,
    /// It was carried out, and this is its result.
    Produced(serde_json::Value),
    /// It failed. The failure is for the machine's item.
    Failed(Box<Problem>, Option<Box<Failure>>),
    /// It was cancelled.
    Cancelled,
    /// The manager ends; the next one takes it up again.
    Interrupted,
}

impl Outcome {
    /// A failure that is none of a machine.
    pub(super) fn failed(problem: Problem) -> Self {
        Self::Failed(Box::new(problem), None)
    }
}

impl From<DatabaseError> for Outcome {
    fn from(error: DatabaseError) -> Self {
        Self::failed(crate::api_error::ApiError::from(error).problem().clone())
    }
}

impl From<&SpawnError> for Outcome {
    fn from(error: &SpawnError) -> Self {
        Self::Failed(Box::new(problems::start_problem(error)), Some(Box::new(problems::start_failure(error))))
    }
}

/// Records the result, and what has become of the machine, at once. Tries again while the database is unavailable.
pub(super) async fn finish(app: &App, live: &LiveOperation, outcome: Outcome) {
    if let Outcome::Interrupted = outcome {
        return;
    }
    while let Err(error) = try_finish(app, live, &outcome).await {
        tracing::error!(
            component = "operations",
            error = mimeo_engine::cause::chain(&error),
            "cannot record a result: trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(crate::DATABASE_RETRY_DELAY) => {}
            // The next manager takes the operation up again, and finds it done.
            () = app.end().cancelled() => return,
        }
    }
    if let Some(id) = live.created_machine() {
        observe_new(app, &id).await;
    }
}

/// Observes what has happened to a new machine since its row was written: nothing else has observed it until now.
async fn observe_new(app: &App, id: &str) {
    let Ok(id) = MachineId::try_from(id.to_owned()) else { return };
    if let Err(error) = observe::refresh(app, &id).await {
        // The reconciler does it later.
        tracing::warn!(
            component = "operations",
            machine = id.short(),
            error = mimeo_engine::cause::chain(&error),
            "cannot bring its record up to date"
        );
    }
}

async fn try_finish(app: &App, live: &LiveOperation, outcome: &Outcome) -> Result<(), DatabaseError> {
    let mut operation = live.snapshot();
    let now = Timestamp::now();
    (operation.stage, operation.progress) = (None, None);
    (operation.updated_at, operation.finished_at) = (now, Some(now));
    (operation.status, operation.error) = match outcome {
        Outcome::Succeeded | Outcome::Produced(_) => (OperationStatus::Succeeded, None),
        Outcome::Failed(problem, _) => (OperationStatus::Failed, Some(Problem::clone(problem))),
        Outcome::Cancelled | Outcome::Interrupted => (OperationStatus::Cancelled, None),
    };
    operation.may_cancel = false;
    match outcome {
        Outcome::Produced(result) => operation.result = Some(result.clone()),
        Outcome::Succeeded | Outcome::Failed(..) | Outcome::Cancelled | Outcome::Interrupted => {}
    }
    let mut write = app.database().write_observed().await?;
    let mut machine = None;
    write.store_operation(&operation).await?;
    if let Some(id) = &live.machine {
        machine = finish_machine(app, &mut write, id, &operation, outcome).await?;
    }
    record_event(&mut write, &operation, live).await?;
    write.commit().await?;
    app.metrics().operation_finished(&operation, machine.as_ref());
    app.operations().remove(operation, machine);
    Ok(())
}

/// Records what has become of the machine; returns it.
async fn finish_machine(
    app: &App,
    write: &mut Write<'_>,
    machine: &str,
    operation: &Operation,
    outcome: &Outcome,
) -> Result<Option<Machine>, DatabaseError> {
    let Some(before) = write.machine(machine).await? else { return Ok(None) };
    let mut row = before.clone();
    if row.item.operation.as_deref() == Some(operation.id.as_str()) {
        row.item.operation = None;
    }
    match outcome {
        // The machine runs on whether it could be cloned or not.
        _ if matches!(operation.kind, OperationKind::Snapshot | OperationKind::Fork) => {}
        Outcome::Failed(_, failure) => row.item.failure = failure.as_deref().cloned(),
        _ if operation.kind == OperationKind::Start => row.item.failure = None,
        _ => {}
    }
    row.item.stage = None;
    if !operation.stages.is_empty() {
        row.item.stages.clone_from(&operation.stages);
    }
    observe::apply(app, &mut row);
    Ok(Some(store(write, row, &before).await?))
}

/// Stores the machine if it has changed, with its events. Returns it as it is stored.
pub(super) async fn store(
    write: &mut Write<'_>,
    mut row: MachineRow,
    before: &MachineRow,
) -> Result<Machine, DatabaseError> {
    if row != *before {
        write.store_machine(&mut row, before).await?;
        observe::record_change(write, &row, before).await?;
    }
    Ok(row.item)
}

async fn record_event(
    write: &mut Write<'_>,
    operation: &Operation,
    live: &LiveOperation,
) -> Result<(), DatabaseError> {
    let status = problems::name_of(&operation.status);
    let code = operation.error.as_ref().map(|problem| problem.code.clone());
    let kind = problems::name_of(&operation.kind);
    let resource = resource(ResourceKind::Operation, &*operation.id);
    let data = json!({ "resource": operation.resource, "machine": live.machine, "kind": kind, "code": code });
    let kind = format!("operation.{status}");
    let (actor, owner) = (&*operation.created_by, &*live.owner);
    write.event(EventDraft { kind: &kind, actor, owner, resource, data }).await
}
