//! Records an operation, and begins it.

use jiff::Timestamp;
use mimeo_manager_api::{Machine, Operation, OperationStatus, Resource, ResourceKind};
use serde_json::json;

use super::{LiveOperation, OperationRequest, spawn};
use crate::App;
use crate::database::{DatabaseError, Desired, EventDraft, MachineRow, OperationRow, Write, resource};
use crate::http::etag::IfMatch;
use crate::http::{ApiError, Caller, Result};
use crate::secrets::Secrets;

/// An operation that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The machine as it was recorded.
    pub(crate) machine: Machine,
    /// The operation.
    pub(crate) live: LiveOperation,
}

/// Records a new machine and its creation, and begins it.
pub(crate) async fn begin_create(
    app: &App,
    actor: &str,
    mut row: MachineRow,
    start: bool,
    secrets: Secrets,
) -> Result<Begun> {
    let request = OperationRequest::Create { start };
    let operation = new_operation(&request, &row.item.id, actor);
    row.item.operation = Some(operation.id.clone());
    let mut write = app.database().write().await?;
    write.add_machine(&row).await.map_err(|error| match error {
        DatabaseError::Duplicate => name_taken(&row.item.name),
        other => other.into(),
    })?;
    record(&mut write, &row.item, &operation, &request, actor).await?;
    write.commit().await?;
    let live = spawn(app, operation, request, secrets);
    Ok(Begun { machine: row.item, live })
}

pub(crate) fn name_taken(name: &str) -> ApiError {
    ApiError::new(409, "name-taken", format!("cannot use the name {name:?}: another machine has it"))
        .with_hint("choose another name, or remove that machine")
}

/// Records an operation on a machine, and begins it. Removal cancels what is under way; anything else must wait for it.
pub(crate) async fn begin(
    app: &App,
    caller: &Caller,
    machine: &str,
    if_match: &IfMatch,
    request: OperationRequest,
) -> Result<Begun> {
    let mut write = app.database().write().await?;
    let before = write.machine(machine).await?.filter(|row| caller.sees(&row.item.owner));
    let before = before.ok_or_else(|| ApiError::not_found("machine", machine))?;
    if_match.check(before.item.version)?;
    let current = before.item.operation.as_deref().and_then(|id| app.operations().get(id));
    if let (Desired::Absent, OperationRequest::Delete { .. }, Some(live)) =
        (before.desired, &request, &current)
    {
        // It is being removed already.
        return Ok(Begun { machine: before.item, live: live.clone() });
    }
    check(&before, &request, current.as_ref())?;
    let operation = new_operation(&request, &before.item.id, &caller.name);
    let mut row = before.clone();
    row.item.operation = Some(operation.id.clone());
    if let OperationRequest::Delete { reason, .. } = &request {
        row.item.ended_reason = Some(reason.clone());
        row.desired = Desired::Absent;
        row.item.state = mimeo_manager_api::MachineState::Deleting;
    }
    write.store_machine(&mut row, &before).await?;
    record(&mut write, &row.item, &operation, &request, &caller.name).await?;
    write.commit().await?;
    if let Some(current) = current {
        current.cancel.cancel();
    }
    let live = spawn(app, operation, request, Secrets::default());
    Ok(Begun { machine: row.item, live })
}

fn check(row: &MachineRow, request: &OperationRequest, current: Option<&LiveOperation>) -> Result<()> {
    let name = &row.item.name;
    if row.item.ended_at.is_some() {
        return Err(ApiError::new(410, "machine-deleted", format!("the machine {name:?} was removed")));
    }
    if let (Desired::Absent, Some(operation)) = (row.desired, &row.item.operation) {
        return Err(ApiError::new(409, "machine-deleting", format!("the machine {name:?} is being removed"))
            .with_hint(format!("wait for the operation {operation}")));
    }
    let is_removal = matches!(request, OperationRequest::Delete { .. });
    if let Some(current) = current.filter(|_| !is_removal) {
        let current = current.snapshot();
        let kind = crate::problems::name_of(&current.kind);
        let detail = format!("the machine {name:?} is being changed by an operation of the kind {kind:?}");
        return Err(ApiError::new(409, "operation-in-progress", detail)
            .with_hint(format!("wait for the operation {}, or cancel it", current.id)));
    }
    if row.item.failure.is_some() && row.item.state == mimeo_manager_api::MachineState::Failed && !is_removal
    {
        let detail = format!("the machine {name:?} could not be created");
        return Err(ApiError::new(409, "machine-failed", detail).with_hint("remove it, and create it again"));
    }
    Ok(())
}

fn new_operation(request: &OperationRequest, machine: &str, actor: &str) -> Operation {
    let now = Timestamp::now();
    Operation {
        id: uuid::Uuid::now_v7().simple().to_string(),
        kind: request.kind(),
        status: OperationStatus::Running,
        resource: Resource { kind: ResourceKind::Machine, id: machine.to_owned() },
        stage: None,
        progress: None,
        stages: Vec::new(),
        error: None,
        result: None,
        created_by: actor.to_owned(),
        may_cancel: request.may_cancel(),
        created_at: now,
        updated_at: now,
        finished_at: None,
    }
}

/// Records an operation and its event.
async fn record(
    write: &mut Write<'_>,
    machine: &Machine,
    operation: &Operation,
    request: &OperationRequest,
    actor: &str,
) -> Result<()> {
    let owner = &machine.owner;
    let request = serde_json::to_string(request)
        .map_err(|error| ApiError::new(500, "internal", format!("cannot store the operation: {error}")))?;
    let row = OperationRow { item: operation.clone(), owner: owner.clone(), request };
    write.add_operation(&row).await?;
    let kind = crate::problems::name_of(&operation.kind);
    let data = json!({ "operation": operation.id, "name": machine.name, "request": kind });
    let (kind, resource) =
        (format!("machine.{kind}_requested"), resource(ResourceKind::Machine, &*machine.id));
    write.event(EventDraft { kind: &kind, actor, owner, resource, data }).await?;
    Ok(())
}
