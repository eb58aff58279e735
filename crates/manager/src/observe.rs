//! Brings the rows of machines up to date with their records, which their supervisors write.

use mimeo_engine::MachineId;
use mimeo_engine::machine::{Found, Phase};
use mimeo_manager_api::{MachineState, ResourceKind};
use serde_json::json;

use crate::App;
use crate::database::{DatabaseError, Desired, EventDraft, MachineRow, Write, resource};
use crate::item;
use crate::live::LiveOperation;

/// Writes the machine's current state into the row.
pub(crate) fn apply(app: &App, row: &mut MachineRow) {
    let id = MachineId::try_from(row.item.id.clone()).ok();
    let found = id.and_then(|id| app.engine().registry().read(&id));
    apply_found(row, found.as_ref());
}

/// Writes the state that the machine was found in into the row.
fn apply_found(row: &mut MachineRow, found: Option<&Found>) {
    if let Some(found) = found {
        item::describe(&mut row.item, found);
        row.item.state =
            if row.desired == Desired::Absent { MachineState::Deleting } else { item::state(found) };
        return;
    }
    // What an operation changes is decided when it has finished.
    if row.item.operation.is_some() || row.item.ended_at.is_some() {
        return;
    }
    if row.desired == Desired::Absent {
        return end(row, "removed on request");
    }
    match (row.item.state, &row.item.failure) {
        // Its creation failed, and was undone.
        (MachineState::Creating | MachineState::Failed, Some(_)) => row.item.state = MachineState::Failed,
        (MachineState::Creating, None) => end(row, "its creation was cancelled"),
        _ => end(row, "removed by another client, or because it had exited (`remove`)"),
    }
}

/// Makes the row a tombstone.
fn end(row: &mut MachineRow, reason: &str) {
    row.item.state = MachineState::Deleted;
    row.item.ended_at = Some(jiff::Timestamp::now());
    row.item.ended_reason.get_or_insert_with(|| reason.to_owned());
    row.item.supervisor_pid = None;
    row.item.stage = None;
    row.item.operation = None;
}

/// Records the event of a change of state, if there is one.
pub(crate) async fn record_change(
    write: &mut Write<'_>,
    row: &MachineRow,
    before: &MachineRow,
) -> Result<(), DatabaseError> {
    if row.item.state == before.item.state {
        return Ok(());
    }
    let item = &row.item;
    if item.ended_at.is_some() {
        write.remove_tokens_of_machine(&item.id).await?;
    }
    let kind = format!("machine.{}", item.state.name());
    let data = json!({
        "name": item.name,
        "image": item.image,
        "exit_code": item.exit.as_ref().map(|exit| exit.code),
        "reason": item.ended_reason,
    });
    let resource = resource(ResourceKind::Machine, &*item.id);
    write.event(EventDraft::of_manager(&kind, &item.owner, resource, data)).await
}

/// Brings the row of one machine up to date. A machine that was made without the manager gets a row.
pub(crate) async fn refresh(app: &App, id: &MachineId) -> Result<(), DatabaseError> {
    let Some(before) = app.database().machine(id.as_str()).await? else { return adopt(app, id).await };
    if is_being_created(app, &before) {
        return Ok(());
    }
    let mut row = before.clone();
    apply(app, &mut row);
    if row == before {
        return Ok(());
    }
    let mut write = app.database().write_observed().await?;
    // Again, now that nothing else writes.
    let Some(before) = write.machine(id.as_str()).await? else { return Ok(()) };
    let mut row = before.clone();
    apply(app, &mut row);
    if row == before {
        return Ok(());
    }
    write.store_machine(&mut row, &before).await?;
    record_change(&mut write, &row, &before).await?;
    write.commit().await
}

/// Whether an operation makes the machine, and will record what has become of it.
fn is_being_created(app: &App, row: &MachineRow) -> bool {
    let operation = row.item.operation.as_deref().and_then(|id| app.operations().get(id));
    operation.and_then(|live| live.created_machine()).as_deref() == Some(&*row.item.id)
}

/// Makes a row for a machine that was made without the manager.
async fn adopt(app: &App, id: &MachineId) -> Result<(), DatabaseError> {
    let Some(found) = app.engine().registry().read(id).filter(is_made) else { return Ok(()) };
    let record = &found.record;
    let owner = crate::caller::LOCAL;
    let mut item = item::requested(id.to_string(), record.name.to_string(), owner.to_owned());
    item.created_at = record.times.created;
    let mut row = MachineRow { item, desired: Desired::Present, spec: None };
    apply_found(&mut row, Some(&found));
    let mut write = app.database().write_observed().await?;
    end_failed(&mut write, &row.item.name).await?;
    write.add_machine(&row).await?;
    let resource = resource(ResourceKind::Machine, id.as_str());
    let data = json!({ "name": row.item.name, "image": row.item.image, "state": row.item.state });
    write.event(EventDraft::of_manager("machine.adopted", owner, resource, data)).await?;
    write.commit().await
}

/// Whether a machine is more than a part of another client's work: its creation is complete, and it does not wait in a pool.
fn is_made(found: &Found) -> bool {
    !found.record.waiting && found.record.phase() != Phase::Creating
}

/// A machine that could not be created gives its name up to one that was made without the manager.
async fn end_failed(write: &mut Write<'_>, name: &str) -> Result<(), DatabaseError> {
    let Some(before) = write.machine_of_name(name).await? else { return Ok(()) };
    if before.item.state != MachineState::Failed {
        return Ok(());
    }
    let mut row = before.clone();
    end(&mut row, "it could not be created, and another client has used its name");
    write.store_machine(&mut row, &before).await?;
    record_change(write, &row, &before).await
}

/// Records the stage that the machine's start has reached.
pub(crate) async fn record_stage(app: &App, machine: &str, live: &LiveOperation) {
    let operation = live.snapshot();
    if let Err(error) = try_record_stage(app, machine, &operation).await {
        tracing::warn!(
            component = "operations",
            error = mimeo_engine::cause::chain(&error),
            "cannot record a stage"
        );
    }
}

async fn try_record_stage(
    app: &App,
    machine: &str,
    operation: &mimeo_manager_api::Operation,
) -> Result<(), DatabaseError> {
    let mut write = app.database().write_observed().await?;
    let Some(before) = write.machine(machine).await? else { return Ok(()) };
    let mut row = before.clone();
    row.item.stage.clone_from(&operation.stage);
    row.item.stages.clone_from(&operation.stages);
    if row == before {
        return Ok(());
    }
    write.store_machine(&mut row, &before).await?;
    write.commit().await
}
