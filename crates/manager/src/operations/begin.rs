//! Records an operation on a machine, and begins it.

use mimeo_manager_api::{Machine, MachineState};

use super::{NewOperation, OperationRequest, lifecycle};
use crate::App;
use crate::api_error::{ApiError, Result};
use crate::caller::Caller;
use crate::database::{DatabaseError, Desired, MachineRow};
use crate::live::LiveOperation;
use crate::precondition::IfMatch;
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
    let operation = NewOperation::on_machine(OperationRequest::create(start, &secrets), &row.item, actor);
    row.item.operation = Some(operation.id().to_owned());
    let mut write = app.database().write().await?;
    write.add_machine(&row).await.map_err(|error| match error {
        DatabaseError::Duplicate => name_taken(&row.item.name),
        other => other.into(),
    })?;
    let live = operation.commit(app, write, secrets).await?;
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
    if let (Desired::Absent, OperationRequest::Delete { timeout, force, .. }, Some(live)) =
        (before.desired, &request, &current)
    {
        // It is being removed already.
        if *force && *caller != Caller::manager() {
            let (app, machine, timeout) = (app.clone(), machine.to_owned(), *timeout);
            app.clone().spawn(async move { lifecycle::hasten(&app, &machine, timeout).await });
        }
        return Ok(Begun { machine: before.item, live: live.clone() });
    }
    check(&before, &request, current.as_ref())?;
    let mut row = before.clone();
    if let OperationRequest::Delete { reason, .. } = &request {
        row.item.ended_reason = Some(reason.clone());
        row.desired = Desired::Absent;
        row.item.state = MachineState::Deleting;
    }
    let operation = NewOperation::on_machine(request, &row.item, &caller.name);
    row.item.operation = Some(operation.id().to_owned());
    write.store_machine(&mut row, &before).await?;
    let live = operation.commit(app, write, Secrets::default()).await?;
    // One that changes other resources, too, goes on: the removal waits for it.
    if let Some(current) = current.filter(|current| current.is_on_machine(machine)) {
        current.cancel.cancel();
    }
    Ok(Begun { machine: row.item, live })
}

/// Refuses an operation on a machine that another operation changes, or that does not exist any more.
pub(crate) fn check_idle(app: &App, row: &MachineRow, request: &OperationRequest) -> Result<()> {
    let current = row.item.operation.as_deref().and_then(|id| app.operations().get(id));
    check(row, request, current.as_ref())
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
    let is_forced = matches!(request, OperationRequest::Delete { force: true, .. });
    if let Some(current) = current.filter(|_| !is_forced) {
        let current = current.snapshot();
        let kind = crate::problems::name_of(&current.kind);
        let detail = format!("the machine {name:?} is being changed by an operation of the kind {kind:?}");
        return Err(ApiError::new(409, "operation-in-progress", detail)
            .with_hint(format!("wait for the operation {}, or cancel it", current.id)));
    }
    if is_removal && !is_forced && is_live(row.item.state) {
        return Err(ApiError::new(409, "machine-running", format!("the machine {name:?} is running"))
            .with_hint("stop it first, or remove it with `force=true`"));
    }
    if row.item.failure.is_some() && row.item.state == MachineState::Failed && !is_removal {
        let detail = format!("the machine {name:?} could not be created");
        return Err(ApiError::new(409, "machine-failed", detail).with_hint("remove it, and create it again"));
    }
    Ok(())
}

/// Whether a removal would end something.
fn is_live(state: MachineState) -> bool {
    use MachineState::{Paused, Restarting, Running, Stopping};
    matches!(state, Running | Paused | Stopping | Restarting)
}
