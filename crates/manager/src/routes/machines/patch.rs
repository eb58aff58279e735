//! `PATCH …`: changes a machine's name, labels and time to live.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::machine::{Changes, Found};
use mimeo_engine::{MachineName, act};
use mimeo_manager_api::{Item, Machine, PatchMachine, ResourceKind};
use serde_json::json;
use tokio::time::timeout;

use super::create::expiry;
use crate::App;
use crate::database::{DatabaseError, Desired, EventDraft, MachineRow, resource};
use crate::find_machine::{find, in_engine};
use crate::http::etag::with_etag;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::operations;
use crate::precondition::IfMatch;
use crate::problems;

/// How long a supervisor may take: nothing else is recorded meanwhile.
const EDIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Changes a machine's name, labels and time to live, in any state.
#[utoipa::path(patch, path = "/{id}", tag = "machines", operation_id = "update", request_body = PatchMachine,
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
    ),
    responses((status = 200, description = "The machine.", body = Item<Machine>)))]
pub(super) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    if_match: IfMatch,
    query: Query,
    Json(request): Json<PatchMachine>,
) -> Result<Response> {
    query.finish()?;
    let changes = changes(&request)?;
    let row = find(&app, &caller, &word).await?;
    check(&app, &row, &changes)?;
    // No operation is carried out meanwhile.
    let _turn = app.turns().take(&row.item.id).await;
    change(&app, &caller, &row, &if_match, &request, &changes).await?;
    let item = find(&app, &caller, &row.item.id).await?.item;
    Ok(with_etag(item.version, Json(Item { item })))
}

/// What the engine changes.
fn changes(request: &PatchMachine) -> Result<Changes> {
    let invalid = |detail: String| ApiError::new(422, "invalid-field", detail);
    let name = request.name.as_deref().map(str::parse::<MachineName>).transpose();
    let labels = request.labels.clone().unwrap_or_default();
    if labels.keys().any(String::is_empty) {
        return Err(invalid("labels: a key is empty".to_owned()));
    }
    let name = name.map_err(|error| invalid(format!("name: {error}")))?;
    Ok(Changes { name, labels, ..Changes::default() })
}

fn check(app: &App, row: &MachineRow, changes: &Changes) -> Result<()> {
    let name = &row.item.name;
    if row.item.ended_at.is_some() {
        return Err(ApiError::new(410, "machine-deleted", format!("the machine {name:?} was removed")));
    }
    if row.desired == Desired::Absent {
        return Err(ApiError::new(409, "machine-deleting", format!("the machine {name:?} is being removed")));
    }
    let operation = row.item.operation.as_deref().filter(|id| app.operations().get(id).is_some());
    match operation {
        Some(operation) if *changes != Changes::default() => {
            let detail = format!("the machine {name:?} is being changed by an operation");
            Err(ApiError::new(409, "operation-in-progress", detail)
                .with_hint(format!("wait for the operation {operation}, or cancel it")))
        }
        _ => Ok(()),
    }
}

/// Records the change, and has the engine make it: both or neither. The record reserves the name first.
async fn change(
    app: &App,
    caller: &Caller,
    found: &MachineRow,
    if_match: &IfMatch,
    request: &PatchMachine,
    changes: &Changes,
) -> Result<()> {
    let id = &*found.item.id;
    let mut write = app.database().write().await?;
    let before = write.machine(id).await?.ok_or_else(|| ApiError::not_found("machine", id))?;
    if_match.check(before.item.version)?;
    check(app, &before, changes)?;
    let mut row = before.clone();
    apply(&mut row.item, request)?;
    if row == before {
        return Ok(());
    }
    write.store_machine(&mut row, &before).await.map_err(|error| match error {
        DatabaseError::Duplicate => operations::name_taken(&row.item.name),
        other => other.into(),
    })?;
    let data = json!({ "name": row.item.name, "labels": row.item.labels, "expires_at": row.item.expires_at });
    let (owner, resource) = (&row.item.owner, resource(ResourceKind::Machine, id));
    write.event(EventDraft { kind: "machine.updated", actor: &caller.name, owner, resource, data }).await?;
    if *changes != Changes::default() {
        edit(app, &in_engine(app, found)?, changes).await?;
    }
    Ok(write.commit().await?)
}

fn apply(item: &mut Machine, request: &PatchMachine) -> Result<()> {
    if let Some(name) = &request.name {
        item.name.clone_from(name);
    }
    for (key, value) in request.labels.iter().flatten() {
        match value {
            Some(value) => item.labels.insert(key.clone(), value.clone()),
            None => item.labels.remove(key),
        };
    }
    match request.ttl_seconds {
        None => {}
        Some(0) => item.expires_at = None,
        Some(seconds) => item.expires_at = Some(expiry(seconds)?),
    }
    Ok(())
}

/// Changes the machine's record.
async fn edit(app: &App, found: &Found, changes: &Changes) -> Result<()> {
    match timeout(EDIT_TIMEOUT, act::edit(app.engine(), found, changes)).await {
        Ok(edited) => Ok(edited.map_err(|error| problems::act_problem(&error))?),
        Err(_) => {
            let detail = format!("the supervisor of {} has not answered in time", found.record.name);
            Err(ApiError::new(504, "supervisor-silent", detail))
        }
    }
}
