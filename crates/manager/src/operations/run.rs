//! Carries out an operation in a task of its own.

use mimeo_manager_api::Operation;

use super::finish::{Outcome, finish};
use super::{LiveOperation, OperationRequest, create, lifecycle};
use crate::App;
use crate::database::DatabaseError;
use crate::secrets::Secrets;

/// Begins a recorded operation.
pub(crate) fn spawn(
    app: &App,
    operation: Operation,
    request: OperationRequest,
    secrets: Secrets,
) -> LiveOperation {
    let machine = operation.resource.id.clone();
    let live = app.operations().add(operation);
    let (task_app, task_live) = (app.clone(), live.clone());
    app.spawn(async move {
        let outcome = carry_out(&task_app, &task_live, &machine, request, secrets).await;
        finish(&task_app, &task_live, outcome).await;
    });
    live
}

async fn carry_out(
    app: &App,
    live: &LiveOperation,
    machine: &str,
    request: OperationRequest,
    secrets: Secrets,
) -> Outcome {
    // Operations on one machine follow each other: a removal begins when what it cancelled has ended.
    let _turn = app.turns().take(machine).await;
    if live.cancel.is_cancelled() {
        return Outcome::Cancelled;
    }
    match request {
        OperationRequest::Create { start } => create::create(app, live, machine, start, secrets).await,
        OperationRequest::Start => lifecycle::start(app, live, machine).await,
        OperationRequest::Stop { timeout } => lifecycle::stop(app, machine, timeout).await,
        OperationRequest::Restart { timeout } => lifecycle::restart(app, machine, timeout).await,
        OperationRequest::Pause => lifecycle::pause(app, machine).await,
        OperationRequest::Resume => lifecycle::resume(app, machine).await,
        OperationRequest::Delete { timeout, .. } => lifecycle::delete(app, machine, timeout).await,
    }
}

/// Takes up the operations that an earlier manager has begun and not finished.
pub(crate) async fn resume_unfinished(app: &App) -> Result<usize, DatabaseError> {
    let unfinished = app.database().unfinished_operations().await?;
    let count = unfinished.len();
    for row in unfinished {
        let request = serde_json::from_str(&row.request).map_err(|source| DatabaseError::Parse {
            what: "operation",
            id: row.item.id.clone(),
            source,
        })?;
        spawn(app, row.item, request, Secrets::default());
    }
    Ok(count)
}
