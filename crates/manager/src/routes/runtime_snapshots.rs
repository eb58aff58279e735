//! Boot snapshots: guests that have booted, from which machines are started.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::garbage;
use mimeo_engine::snapshot::Snapshot;
use mimeo_manager_api::{
    Accepted, CreateRuntimeSnapshot, Item, Items, ResourceKind, RuntimeSnapshot, RuntimeSnapshotBuild,
};
use serde_json::json;
use utoipa_axum::routes;

use crate::App;
use crate::caller::LOCAL;
use crate::database::{After, EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Routes, page, wait};
use crate::operations::{NewOperation, OperationRequest, boot_machine_spec};
use crate::problems;
use crate::routes::accepted::answer_with;
use crate::runtime_snapshots;
use crate::secrets::Secrets;
use crate::volumes::blocking;

/// The digits of an id that must be given at least.
const MIN_DIGITS: usize = 4;

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(list))
        .add(Policy::Read, routes!(get))
        .add(Policy::Admin, routes!(create))
        .add(Policy::Admin, routes!(delete))
        .add(Policy::Admin, routes!(rebuild))
}

async fn find(app: &App, word: &str) -> Result<Snapshot> {
    let missing = || ApiError::not_found("runtime snapshot", word);
    let mut found = runtime_snapshots::list(app).await?;
    if let Some(tagged) = found.iter().position(|snapshot| snapshot.manifest.display_name() == word) {
        return Ok(found.swap_remove(tagged));
    }
    found.retain(|snapshot| word.len() >= MIN_DIGITS && snapshot.manifest.id.as_str().starts_with(word));
    match found.len() {
        0 | 1 => found.pop().ok_or_else(missing),
        _ => {
            let detail = format!("{word:?} is the start of several runtime snapshots' ids");
            Err(ApiError::new(409, "ambiguous-id", detail).with_hint("give more digits"))
        }
    }
}

/// Lists boot snapshots by their ids, a page at a time.
#[utoipa::path(get, path = "/", tag = "runtime snapshots", operation_id = "list_runtime_snapshots",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of boot snapshots.", body = Items<RuntimeSnapshot>)))]
async fn list(State(app): State<App>, mut query: Query) -> Result<Json<Items<RuntimeSnapshot>>> {
    let limit = page::limit(&mut query)?;
    let after = page::cursor(&mut query)?;
    query.finish()?;
    let mut found = runtime_snapshots::list(&app).await?;
    found.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
    found.retain(|snapshot| after.as_ref().is_none_or(|after| snapshot.manifest.id.as_str() > &*after.id));
    found.truncate(usize::try_from(limit + 1).unwrap_or(usize::MAX));
    let items = runtime_snapshots::items(&app, &found).await;
    let place = |item: &RuntimeSnapshot| After { key: String::new(), id: item.id.clone() };
    Ok(Json(page::page(items, limit, place, |item| item)))
}

/// Reads a boot snapshot.
#[utoipa::path(get, path = "/{id}", tag = "runtime snapshots", operation_id = "get_runtime_snapshot",
    params(("id" = String, Path, description = "The boot snapshot: its tag, its id or the start of its id")),
    responses((status = 200, description = "The boot snapshot.", body = Item<RuntimeSnapshot>)))]
async fn get(
    State(app): State<App>,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<RuntimeSnapshot>>> {
    query.finish()?;
    let found = find(&app, &word).await?;
    Ok(Json(Item { item: runtime_snapshots::item(&app, &found).await }))
}

/// Makes the boot snapshot for machines of a configuration, unless there is one.
#[utoipa::path(post, path = "/", tag = "runtime snapshots", operation_id = "create_runtime_snapshot", request_body = CreateRuntimeSnapshot,
    params(("wait" = Option<f64>, Query, description = "Seconds to wait until it is made; 0 by default", minimum = 0, maximum = 300)),
    responses(
        (status = 201, description = "There is a boot snapshot.", body = Accepted<RuntimeSnapshotBuild>),
        (status = 202, description = "The boot snapshot is being made.", body = Accepted<RuntimeSnapshotBuild>),
    ))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
    Json(configuration): Json<CreateRuntimeSnapshot>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    boot_machine_spec(&app, &configuration).map_err(|error| problems::invalid_field(&error))?;
    let text = describe(&configuration);
    let request = OperationRequest::Build { configuration };
    begin(&app, &caller, request, &text, &text, wait, 201).await
}

/// Makes a boot snapshot again, with the kernel, the agent and the VMM that are in use now. Machines that run on the old one
/// run on.
#[utoipa::path(post, path = "/{id}/rebuild", tag = "runtime snapshots", operation_id = "rebuild_runtime_snapshot",
    params(
        ("id" = String, Path, description = "The boot snapshot: its tag, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it is made; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The boot snapshot was made again.", body = Accepted<RuntimeSnapshotBuild>),
        (status = 202, description = "The boot snapshot is being made.", body = Accepted<RuntimeSnapshotBuild>),
    ))]
async fn rebuild(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    let found = find(&app, &word).await?;
    let Some(configuration) = runtime_snapshots::configuration(&found) else {
        let detail =
            "cannot make it again: an earlier version has made it, which did not record its configuration";
        return Err(
            ApiError::new(409, "configuration-unknown", detail).with_hint("delete it, and create one")
        );
    };
    let (id, text) = (found.manifest.id.to_string(), describe(&configuration));
    let request = OperationRequest::Rebuild { snapshot: id.clone(), configuration };
    begin(&app, &caller, request, &id, &text, wait, 200).await
}

/// A configuration in a few words.
fn describe(configuration: &CreateRuntimeSnapshot) -> String {
    let default = mimeo_engine::MachineSpec::new(String::new());
    let cpus = configuration.cpus.unwrap_or(default.cpus);
    let memory_mib = configuration.memory_mib.unwrap_or(default.memory_mib);
    let driver = configuration.driver.as_deref().unwrap_or(&default.driver);
    format!("{driver}, {cpus} vCPUs, {memory_mib} MiB, {} volumes", configuration.volumes.len())
}

async fn begin(
    app: &App,
    caller: &Caller,
    request: OperationRequest,
    id: &str,
    configuration: &str,
    wait: Duration,
    done: u16,
) -> Result<Response> {
    let subject = resource(ResourceKind::RuntimeSnapshot, id);
    let operation = NewOperation::new(request, subject, LOCAL, configuration, &caller.name);
    let write = app.database().write().await?;
    let live = operation.commit(app, write, Secrets::default()).await?;
    let item = RuntimeSnapshotBuild { configuration: configuration.to_owned(), runtime_snapshot: None };
    let reload = async {
        let made = live.snapshot().result.and_then(|result| serde_json::from_value(result).ok());
        Ok(Some(RuntimeSnapshotBuild { configuration: configuration.to_owned(), runtime_snapshot: made }))
    };
    answer_with(item, &live, wait, done, reload).await
}

/// Removes a boot snapshot, with its files. Machines that run on it run on, but cannot be saved any more. The next machine
/// of its configuration makes it again.
#[utoipa::path(delete, path = "/{id}", tag = "runtime snapshots", operation_id = "delete_runtime_snapshot",
    params(("id" = String, Path, description = "The boot snapshot: its tag, its id or the start of its id")),
    responses(
        (status = 200, description = "The boot snapshot was removed.", body = Item<RuntimeSnapshot>),
        (status = 409, description = "Snapshots are built on it; `detail` names them."),
    ))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<RuntimeSnapshot>>> {
    query.finish()?;
    let found = find(&app, &word).await?;
    let item = runtime_snapshots::item(&app, &found).await;
    let engine = app.engine().clone();
    let removed = blocking(move || garbage::remove(&engine, &found).map(drop)).await;
    removed.map_err(|error| problems::store_problem(&error))?;
    let mut write = app.database().write().await?;
    let (resource, data) = (resource(ResourceKind::RuntimeSnapshot, &*item.id), json!({ "tag": item.tag }));
    let kind = "runtime_snapshot.removed";
    write.event(EventDraft { kind, actor: &caller.name, owner: LOCAL, resource, data }).await?;
    write.commit().await?;
    Ok(Json(Item { item }))
}
