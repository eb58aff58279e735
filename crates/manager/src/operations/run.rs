//! Carries out an operation in a task of its own.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use mimeo_manager_api::{Operation, Problem, ResourceKind};
use tokio::sync::OwnedMutexGuard;

use super::finish::{Outcome, finish};
use super::{OperationRequest, boot_snapshot, clones, create, fork, instantiate, lifecycle, pull, snapshot};
use crate::App;
use crate::database::{DatabaseError, OperationRow};
use crate::live::LiveOperation;
use crate::problems;
use crate::secrets::Secrets;

/// Begins a recorded operation on a resource of this owner.
pub(crate) fn spawn(
    app: &App,
    operation: Operation,
    owner: &str,
    request: OperationRequest,
    secrets: Secrets,
) -> LiveOperation {
    let machine = request.machine(&operation.resource);
    let resource = operation.resource.id.clone();
    let live = app.operations().add(operation, owner, machine.as_deref());
    let (task_app, task_live) = (app.clone(), live.clone());
    app.spawn(async move {
        let carried_out = carry_out(&task_app, &task_live, &resource, request, secrets);
        let outcome = match AssertUnwindSafe(carried_out).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => fail_unexpectedly(&task_app, &task_live, problems::unexpected(&*panic)).await,
        };
        finish(&task_app, &task_live, outcome).await;
    });
    live
}

/// Records that a fault of the manager has ended the operation: nothing waits for it for ever.
async fn fail_unexpectedly(app: &App, live: &LiveOperation, problem: Problem) -> Outcome {
    tracing::error!(component = "operations", operation = live.snapshot().id, %problem, "an operation failed unexpectedly");
    clones::record_undecided(app, live, &problem).await;
    Outcome::failed(problem)
}

async fn carry_out(
    app: &App,
    live: &LiveOperation,
    id: &str,
    request: OperationRequest,
    secrets: Secrets,
) -> Outcome {
    let _turns = take_turns(app, live, &request).await;
    if live.cancel.is_cancelled() {
        return Outcome::Cancelled;
    }
    match request {
        OperationRequest::Create { start, has_login } => {
            create::create(app, live, id, start, has_login, secrets).await
        }
        OperationRequest::Start => lifecycle::start(app, live, id).await,
        OperationRequest::Stop { timeout } => lifecycle::stop(app, live, id, timeout).await,
        OperationRequest::Restart { timeout } => lifecycle::restart(app, live, id, timeout).await,
        OperationRequest::Pause => lifecycle::pause(app, id).await,
        OperationRequest::Resume => lifecycle::resume(app, id).await,
        OperationRequest::Delete { timeout, .. } => lifecycle::delete(app, id, timeout).await,
        OperationRequest::Snapshot { machine, contents } => snapshot::take(app, id, &machine, contents).await,
        OperationRequest::Instantiate { machines } => {
            instantiate::instantiate(app, live, id, machines, secrets.reservation).await
        }
        OperationRequest::Fork { machines } => fork::fork(app, live, id, machines).await,
        OperationRequest::Pull { request, has_login } => {
            pull::pull(app, live, &request, has_login, secrets.registry_login).await
        }
        OperationRequest::Build { configuration } => boot_snapshot::build(app, live, &configuration).await,
        OperationRequest::Rebuild { snapshot, configuration } => {
            boot_snapshot::rebuild(app, live, &snapshot, &configuration).await
        }
    }
}

/// Operations on one machine follow each other: a removal begins when what it cancelled has ended. A fork has the turns of
/// its clones, too; other clones are started in turns of their own.
async fn take_turns(app: &App, live: &LiveOperation, request: &OperationRequest) -> Vec<OwnedMutexGuard<()>> {
    let mut turns = Vec::new();
    if let Some(machine) = &live.machine {
        turns.push(app.turns().take(machine).await);
    }
    if let OperationRequest::Fork { machines } = request {
        for machine in machines {
            turns.push(app.turns().take(machine).await);
        }
    }
    turns
}

/// Takes up the operations that were begun and not finished, and that nothing carries out: those of an earlier manager, and
/// those whose record was committed although the database did not answer any more.
pub(crate) async fn resume_unfinished(app: &App) -> Result<usize, DatabaseError> {
    let mut count = 0;
    for row in app.database().unfinished_operations().await? {
        if app.operations().knows(&row.item.id) {
            continue;
        }
        // It may have finished since it was read.
        let row = app.database().operation(&row.item.id).await?;
        if let Some(row) = row.filter(|row| !row.item.status.is_finished()) {
            resume(app, row).await?;
            count += 1;
        }
    }
    Ok(count)
}

async fn resume(app: &App, row: OperationRow) -> Result<(), DatabaseError> {
    match serde_json::from_str(&row.request) {
        Ok(request) if is_superseded(app, &row, &request).await? => {
            let live = app.operations().add(row.item, &row.owner, None);
            finish(app, &live, Outcome::Cancelled).await;
        }
        Ok(request) => drop(spawn(app, row.item, &row.owner, request, Secrets::default())),
        Err(error) => {
            let problem =
                Problem::new(500, "operation-unreadable", format!("cannot read its request: {error}"));
            tracing::error!(component = "operations", operation = row.item.id, %problem, "cannot take up an operation");
            let machine = Some(&row.item.resource).filter(|resource| resource.kind == ResourceKind::Machine);
            let machine = machine.map(|resource| resource.id.clone());
            let live = app.operations().add(row.item, &row.owner, machine.as_deref());
            clones::record_undecided(app, &live, &problem).await;
            finish(app, &live, Outcome::failed(problem)).await;
        }
    }
    Ok(())
}

/// Whether the operation's machine has ended, or is changed by another operation, which began while nothing carried this one
/// out.
async fn is_superseded(
    app: &App,
    row: &OperationRow,
    request: &OperationRequest,
) -> Result<bool, DatabaseError> {
    use OperationRequest::{Create, Delete, Pause, Restart, Resume, Start, Stop};
    if !matches!(
        request,
        Create { .. } | Start | Stop { .. } | Restart { .. } | Pause | Resume | Delete { .. }
    ) {
        return Ok(false);
    }
    let machine = app.database().machine(&row.item.resource.id).await?;
    Ok(machine.is_none_or(|machine| machine.item.operation.as_ref() != Some(&row.item.id)))
}
