//! What the command line of the same version shows of a host, in the engine's own form: records of machines, images and the host
//! itself. Other clients use the items of `/v1/vms` and `/v1/images`, which are stable.

use axum::extract::{Path, State};
use mimeo_engine::{MachineId, Record, SnapshotId};
use mimeo_manager_api::{Item, Items, Role, Scope};
use serde_json::Value;
use utoipa_axum::routes;

use crate::App;
use crate::convert::MachineRecord;
use crate::database::{MachineFilter, MachineRow, SnapshotFilter, Sort, place_of_snapshot};
use crate::find_machine::{find, in_engine};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Routes, page};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(machines))
        .add(Policy::Read, routes!(machine))
        .add(Policy::Read, routes!(images))
        .add(Policy::Read, routes!(image))
        .add(Policy::Read, routes!(snapshots))
        .add(Policy::Read, routes!(snapshot))
        .add(Policy::Read, routes!(host))
}

/// Lists machines as the engine records them, for the command line of the same version.
#[utoipa::path(get, path = "/machines", tag = "records", operation_id = "list_machine_records",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of records.", body = Items<Object>)))]
async fn machines(State(app): State<App>, caller: Caller, mut query: Query) -> Result<Json<Items<Value>>> {
    let limit = page::limit(&mut query)?;
    let after = page::cursor(&mut query)?;
    query.finish()?;
    let filter =
        MachineFilter { owner: caller.only_owner(), after, limit: limit + 1, ..MachineFilter::default() };
    let rows = app.database().machines(&filter).await?;
    let page = page::page(rows, limit, |row| row.place(Sort::default()), |row| record(&app, &caller, &row));
    // A machine that is being created or removed has no record.
    Ok(Json(Items { items: page.items.into_iter().flatten().collect(), next_cursor: page.next_cursor }))
}

/// Reads a machine as the engine records it.
#[utoipa::path(get, path = "/machines/{id}", tag = "records", operation_id = "get_machine_record",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The record.", body = Item<Object>)))]
async fn machine(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<Value>>> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    in_engine(&app, &row)?;
    let item = record(&app, &caller, &row).ok_or_else(|| ApiError::not_found("machine", &word))?;
    Ok(Json(Item { item }))
}

fn record(app: &App, caller: &Caller, row: &MachineRow) -> Option<Value> {
    let id = MachineId::try_from(row.item.id.clone()).ok()?;
    let mut record = MachineRecord::from(app.engine().registry().read(&id)?);
    if !sees_environment(caller) {
        hide_environment(&mut record.record);
    }
    if !sees_paths(caller) {
        record.dir = relative(app, &record.dir);
    }
    serde_json::to_value(record).ok()
}

/// A path below the home directory, without that directory's own.
fn relative(app: &App, path: &std::path::Path) -> std::path::PathBuf {
    path.strip_prefix(app.engine().home().home()).unwrap_or(path).to_owned()
}

/// Whether the caller may look into machines, where the environment is.
fn sees_environment(caller: &Caller) -> bool {
    caller.role != Role::Viewer && caller.has(Scope::Exec)
}

/// Hides what may be secret.
fn hide_environment(record: &mut Record) {
    record.spec.env.clear();
    record.spec.env_merge.clear();
    record.source_env.clear();
    record.process.env.clear();
}

/// Lists images as the image store records them.
#[utoipa::path(get, path = "/images", tag = "records", operation_id = "list_image_records",
    responses((status = 200, description = "All records.", body = Items<Object>)))]
async fn images(State(app): State<App>, caller: Caller, query: Query) -> Result<Json<Items<Value>>> {
    query.finish()?;
    let engine = app.engine().clone();
    let images = blocking(move || {
        let listing = engine.images().map_err(|error| image_store_failed(&error))?.list();
        Ok(listing.map_err(|error| image_store_failed(&error))?.images)
    });
    let items = images.await?.into_iter().map(|image| to_value(&visible(&app, &caller, image)));
    let items = items.collect::<Result<_>>()?;
    Ok(Json(Items { items, next_cursor: None }))
}

/// Reads an image as `mimeo image inspect` does.
#[utoipa::path(get, path = "/images/{name}", tag = "records", operation_id = "get_image_record",
    params(("name" = String, Path, description = "The image: its name, percent-encoded, its id or the start of its id")),
    responses((status = 200, description = "The record.", body = Item<Object>)))]
async fn image(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Item<Value>>> {
    query.finish()?;
    let (engine, word) = (app.engine().clone(), name.clone());
    let inspection = blocking(move || {
        let inspection = engine.images().map_err(|error| image_store_failed(&error))?.inspect(&word);
        inspection.map_err(|error| ApiError::new(422, "invalid-request", mimeo_engine::cause::chain(&error)))
    });
    let mut inspection = inspection.await?.ok_or_else(|| ApiError::not_found("image", &name))?;
    inspection.image = visible(&app, &caller, inspection.image);
    Ok(Json(Item { item: to_value(&inspection)? }))
}

/// What the caller may know of an image.
fn visible(app: &App, caller: &Caller, mut image: mimeo_image::Image) -> mimeo_image::Image {
    if !sees_paths(caller) {
        image.rootfs = relative(app, &image.rootfs);
    }
    image
}

/// Lists snapshots as their manifests describe them.
#[utoipa::path(get, path = "/snapshots", tag = "records", operation_id = "list_snapshot_records",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of records.", body = Items<Object>)))]
async fn snapshots(State(app): State<App>, caller: Caller, mut query: Query) -> Result<Json<Items<Value>>> {
    let limit = page::limit(&mut query)?;
    let after = page::cursor(&mut query)?;
    query.finish()?;
    crate::snapshots::refresh(&app).await?;
    let filter =
        SnapshotFilter { owner: caller.only_owner(), after, limit: limit + 1, ..SnapshotFilter::default() };
    let items = app.database().snapshots(&filter).await?;
    let page = page::page(
        items,
        limit,
        |item| place_of_snapshot(item, Sort::default()),
        |item| manifest(&app, &caller, &item.id),
    );
    // A snapshot that is being taken has no manifest.
    Ok(Json(Items { items: page.items.into_iter().flatten().collect(), next_cursor: page.next_cursor }))
}

/// Reads a snapshot as its manifest describes it.
#[utoipa::path(get, path = "/snapshots/{id}", tag = "records", operation_id = "get_snapshot_record",
    params(("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id")),
    responses((status = 200, description = "The record.", body = Item<Object>)))]
async fn snapshot(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<Value>>> {
    query.finish()?;
    let id = super::snapshots::find(&app, &caller, &word).await?.id;
    let item = manifest(&app, &caller, &id).ok_or_else(|| ApiError::not_found("snapshot", &word))?;
    Ok(Json(Item { item }))
}

fn manifest(app: &App, caller: &Caller, id: &str) -> Option<Value> {
    let id = SnapshotId::try_from(id.to_owned()).ok()?;
    let mut manifest = app.engine().snapshots().read(&id).ok()?.manifest;
    if let Some(record) = manifest.machine.as_mut().filter(|_| !sees_environment(caller)) {
        hide_environment(record);
    }
    serde_json::to_value(manifest).ok()
}

/// Whether the caller may know where the host keeps its files.
fn sees_paths(caller: &Caller) -> bool {
    Policy::Admin.check(caller).is_ok()
}

/// Removes all members that are paths.
fn hide_paths(value: &mut Value) {
    let Value::Object(members) = value else { return };
    members.retain(|_, value| !value.as_str().is_some_and(|text| text.starts_with('/')));
    members.values_mut().for_each(hide_paths);
}

/// Describes the manager's host, as `mimeo version` and `mimeo info` do.
#[utoipa::path(get, path = "/host", tag = "records", operation_id = "get_host_record",
    responses((status = 200, description = "The host.", body = Item<Object>)))]
async fn host(State(app): State<App>, caller: Caller, query: Query) -> Result<Json<Item<Value>>> {
    query.finish()?;
    let mut item = blocking(move || Ok(app.describe_host())).await?;
    if !sees_paths(&caller) {
        hide_paths(&mut item);
    }
    Ok(Json(Item { item }))
}

fn to_value<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| ApiError::new(500, "internal", error.to_string()))
}

fn image_store_failed(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::new(500, "image-store-failed", mimeo_engine::cause::chain(error))
}

/// Runs what reads many files where it does not hold up other requests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::new(500, "internal", error.to_string()))?
}
