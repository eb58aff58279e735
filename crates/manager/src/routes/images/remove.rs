//! Removes images.

use axum::extract::{Path, State};
use mimeo_engine::cause::chain;
use mimeo_manager_api::{Item, PruneImages, RemovedImages, ResourceKind};
use serde_json::json;

use crate::App;
use crate::caller::LOCAL;
use crate::database::{EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::{images, problems};

/// Removes an image, or only the given name if it has others.
#[utoipa::path(delete, path = "/{name}", tag = "images", operation_id = "delete_image",
    params(
        ("name" = String, Path, description = "The image: its name, percent-encoded (`/` is `%2F`), its id or the start of its id"),
        ("force" = Option<bool>, Query, description = "Remove it with all of its names, also if it is in use: what runs keeps it until it ends"),
    ),
    responses(
        (status = 200, description = "What was removed.", body = Item<RemovedImages>),
        (status = 409, description = "It is in use; `detail` says by what."),
    ))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    mut query: Query,
) -> Result<Json<Item<RemovedImages>>> {
    let force = query.take_parsed::<bool>("force")?.unwrap_or(false);
    query.finish()?;
    let text = name.clone();
    let removed = images::with_store(&app, move |store, users| {
        let removed = store.remove(&text, force, &|image| users.describe(image));
        removed.map_err(|error| problems::image_removal_problem(&error).into())
    });
    let removed = removed.await?;
    let item = RemovedImages {
        untagged: removed.untagged,
        deleted: removed.deleted.iter().map(ToString::to_string).collect(),
        freed_bytes: removed.freed,
    };
    record(&app, &caller, "image.removed", &name, &item).await?;
    Ok(Json(Item { item }))
}

/// Removes images that are not needed, and files that no image needs.
#[utoipa::path(post, path = "/prune", tag = "images", operation_id = "prune_images", request_body = PruneImages,
    responses((status = 200, description = "What was removed.", body = Item<RemovedImages>)))]
pub(super) async fn prune(
    State(app): State<App>,
    caller: Caller,
    query: Query,
    Json(PruneImages { all }): Json<PruneImages>,
) -> Result<Json<Item<RemovedImages>>> {
    query.finish()?;
    let pruned = images::with_store(&app, move |store, users| {
        let pruned = store.prune(all, &|image| users.describe(image));
        pruned.map_err(|error| ApiError::new(500, "store-failed", chain(&error)))
    });
    let pruned = pruned.await?;
    let deleted = pruned.deleted.iter().map(ToString::to_string).collect();
    let item = RemovedImages { untagged: Vec::new(), deleted, freed_bytes: pruned.freed };
    record(&app, &caller, "image.pruned", "", &item).await?;
    Ok(Json(Item { item }))
}

async fn record(app: &App, caller: &Caller, kind: &str, name: &str, item: &RemovedImages) -> Result<()> {
    let mut write = app.database().write().await?;
    let data = json!({ "untagged": item.untagged, "deleted": item.deleted });
    let resource = resource(ResourceKind::Image, name);
    write.event(EventDraft { kind, actor: &caller.name, owner: LOCAL, resource, data }).await?;
    Ok(write.commit().await?)
}
