//! Carries out an operation in a task of its own.

use mimeo_manager_api::Operation;
use tokio::sync::OwnedMutexGuard;

use super::finish::{Outcome, finish};
use super::{OperationRequest, boot_snapshot, create, fork, instantiate, lifecycle, pull, snapshot};
use crate::App;
use crate::database::DatabaseError;
use crate::live::LiveOperation;
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
        let outcome = carry_out(&task_app, &task_live, &resource, request, secrets).await;
        finish(&task_app, &task_live, outcome).await;
    });
    live
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
        OperationRequest::Create { start } => create::create(app, live, id, start, secrets).await,
        OperationRequest::Start => lifecycle::start(app, live, id).await,
        OperationRequest::Stop { timeout } => lifecycle::stop(app, id, timeout).await,
        OperationRequest::Restart { timeout } => lifecycle::restart(app, id, timeout).await,
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
        spawn(app, row.item, &row.owner, request, Secrets::default());
    }
    Ok(count)
}
