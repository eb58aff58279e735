//! Removes a snapshot.

use axum::extract::{Path, State};
use mimeo_engine::{SnapshotId, garbage};
use mimeo_manager_api::{Item, ResourceKind, Snapshot};

use super::find::find_ready;
use crate::App;
use crate::database::resource;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::precondition::IfMatch;
use crate::problems::store_problem;
use crate::snapshots;
use crate::volumes::blocking;

/// Removes a snapshot, with its files. Machines that were started from it run on. One that other snapshots are built on, that
/// has a pool, or of which clones are being started, is in use.
#[utoipa::path(delete, path = "/{id}", tag = "snapshots", operation_id = "delete_snapshot",
    params(
        ("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the snapshot must have one: 412 `version-changed` if it has another"),
    ),
    responses(
        (status = 200, description = "The snapshot was removed.", body = Item<Snapshot>),
        (status = 409, description = "It is in use; `detail` says by what."),
    ))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    if_match: IfMatch,
    query: Query,
) -> Result<Json<Item<Snapshot>>> {
    query.finish()?;
    let item = find_ready(&app, &caller, &word).await?;
    if_match.check(item.version)?;
    check_unused(&app, &item).await?;
    let engine = app.engine().clone();
    let id = SnapshotId::try_from(item.id.clone()).map_err(|_| ApiError::not_found("snapshot", &word))?;
    let removed = blocking(move || match engine.snapshots().read(&id) {
        Ok(saved) => garbage::remove(&engine, &saved).map(drop),
        // Another client has removed it.
        Err(_) if !engine.snapshots().dir(&id).exists() => Ok(()),
        // Its manifest is damaged.
        Err(_) => mimeo_engine::snapshot::remove_damaged(&engine.snapshots(), id.as_str()).map(drop),
    });
    removed.await.map_err(|error| store_problem(&error))?;
    snapshots::record_removed(&app, &item, &caller.name).await?;
    Ok(Json(Item { item }))
}

async fn check_unused(app: &App, item: &Snapshot) -> Result<()> {
    let in_use = |by: &str| {
        let name = item.tag.as_deref().unwrap_or(&item.id);
        ApiError::new(
            409,
            "snapshot-in-use",
            format!("cannot remove snapshot {name}, which is in use by {by}"),
        )
    };
    if app.database().pool_size(&item.id).await?.is_some() {
        return Err(in_use("its pool").with_hint(format!("DELETE /v1/snapshots/{}/pool", item.id)));
    }
    if app.operations().uses(&resource(ResourceKind::Snapshot, &*item.id)) {
        return Err(in_use("an operation").with_hint("wait until it has finished"));
    }
    Ok(())
}
