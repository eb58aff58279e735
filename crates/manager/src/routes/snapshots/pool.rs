//! The pool of a snapshot.

use std::time::Duration;

use axum::extract::{Path, State};
use mimeo_engine::SnapshotId;
use mimeo_manager_api::{Item, Pool, PoolState, PutPool, ResourceKind, Snapshot, SnapshotKind};
use serde_json::json;
use tokio::time::Instant;

use super::find::find_ready;
use crate::App;
use crate::database::{EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};
use crate::pools;

/// The largest pool.
const MAX_SIZE: u32 = 100;
/// Pause between two looks at a pool that a request waits for.
const POLL: Duration = Duration::from_millis(100);

/// Keeps clones of a snapshot ready. Requests that start clones of it take them from the pool; those run on when the pool
/// ends. The pool outlives the manager. Each ready clone uses memory, as a running one does.
#[utoipa::path(put, path = "/{id}/pool", tag = "snapshots", operation_id = "put_pool", request_body = PutPool,
    params(
        ("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until the pool is full; 0 by default", minimum = 0, maximum = 300),
    ),
    responses((status = 200, description = "The pool.", body = Item<Pool>)))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
    Json(PutPool { size }): Json<PutPool>,
) -> Result<Json<Item<Pool>>> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    if !(1..=MAX_SIZE).contains(&size) {
        let detail = format!("cannot use size: {size} is not between 1 and {MAX_SIZE}");
        return Err(ApiError::new(422, "invalid-field", detail).with_hint("DELETE ends the pool"));
    }
    let item = find_ready(&app, &caller, &word).await?;
    if item.kind == Some(SnapshotKind::Disk) {
        let detail = "cannot keep a pool: the snapshot has no memory, so its machines are booted";
        return Err(ApiError::new(409, "pool-unsupported", detail));
    }
    set(&app, &caller, &item, size).await?;
    let deadline = Instant::now() + wait;
    let id = snapshot_id(&item)?;
    loop {
        let pool = pools::item(&app, &id, size).await;
        let is_settled = matches!(pool.state, PoolState::Ready | PoolState::Failed);
        if is_settled || Instant::now() >= deadline {
            return Ok(Json(Item { item: pool }));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Reads the pool of a snapshot.
#[utoipa::path(get, path = "/{id}/pool", tag = "snapshots", operation_id = "get_pool",
    params(("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id")),
    responses((status = 200, description = "The pool.", body = Item<Pool>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<Pool>>> {
    query.finish()?;
    let item = find_ready(&app, &caller, &word).await?;
    let size = size_of(&app, &item).await?;
    Ok(Json(Item { item: pools::item(&app, &snapshot_id(&item)?, size).await }))
}

/// Ends the pool of a snapshot, with the clones that wait in it. Those that were taken from it run on.
#[utoipa::path(delete, path = "/{id}/pool", tag = "snapshots", operation_id = "delete_pool",
    params(
        ("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it has ended; 60 by default", minimum = 0, maximum = 300),
    ),
    responses((status = 200, description = "The pool as it was.", body = Item<Pool>)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Json<Item<Pool>>> {
    let wait = wait::seconds(&mut query, "wait", 60.0)?;
    query.finish()?;
    let item = find_ready(&app, &caller, &word).await?;
    let size = size_of(&app, &item).await?;
    let pool = pools::item(&app, &snapshot_id(&item)?, size).await;
    set(&app, &caller, &item, 0).await?;
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline && app.database().pools().await?.iter().any(|(id, _)| *id == item.id) {
        tokio::time::sleep(POLL).await;
    }
    Ok(Json(Item { item: pool }))
}

fn snapshot_id(item: &Snapshot) -> Result<SnapshotId> {
    SnapshotId::try_from(item.id.clone()).map_err(|_| ApiError::not_found("snapshot", &item.id))
}

async fn size_of(app: &App, item: &Snapshot) -> Result<u32> {
    let size = app.database().pool_size(&item.id).await?;
    size.ok_or_else(|| ApiError::new(404, "not-found", format!("the snapshot {} has no pool", item.id)))
}

/// Records the size, and has the pool made so; 0 to end it.
async fn set(app: &App, caller: &Caller, item: &Snapshot, size: u32) -> Result<()> {
    let mut write = app.database().write().await?;
    write.set_pool(item, size).await?;
    let resource = resource(ResourceKind::Snapshot, &*item.id);
    let (kind, data) = ("snapshot.pool_requested", json!({ "size": size }));
    write.event(EventDraft { kind, actor: &caller.name, owner: &item.owner, resource, data }).await?;
    write.commit().await?;
    app.pools().wake();
    Ok(())
}
