//! Reads images.

use axum::extract::{Path, State};
use mimeo_engine::cause::chain;
use mimeo_image::Image as Stored;
use mimeo_manager_api::{Image, Item, Items};

use crate::App;
use crate::database::After;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, page};
use crate::images;

/// Lists images by their ids, a page at a time.
#[utoipa::path(get, path = "/", tag = "images", operation_id = "list_images",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of images.", body = Items<Image>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Json<Items<Image>>> {
    let limit = page::limit(&mut query)?;
    let after = page::cursor(&mut query)?;
    query.finish()?;
    let listed = images::with_store(&app, |store, _| {
        store.list().map_err(|error| ApiError::new(500, "store-failed", chain(&error)))
    });
    let mut found = listed.await?.images;
    found.sort_by_key(|image| image.id.to_string());
    found.retain(|image| after.as_ref().is_none_or(|after| image.id.to_string() > after.id));
    found.truncate(usize::try_from(limit + 1).unwrap_or(usize::MAX));
    let items = images::items(&app, Some(&caller), found).await?;
    let place = |item: &Image| After { key: String::new(), id: item.id.clone() };
    Ok(Json(page::page(items, limit, place, |item| item)))
}

/// Reads an image.
#[utoipa::path(get, path = "/{name}", tag = "images", operation_id = "get_image",
    params(("name" = String, Path, description = "The image: its name, percent-encoded (`/` is `%2F`), its id or the start of its id")),
    responses((status = 200, description = "The image.", body = Item<Image>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Item<Image>>> {
    query.finish()?;
    let image = find(&app, &name).await?;
    Ok(Json(Item { item: images::item(&app, Some(&caller), &image).await? }))
}

async fn find(app: &App, name: &str) -> Result<Stored> {
    let text = name.to_owned();
    let found = images::with_store(app, move |store, _| {
        store.find(&text).map_err(|error| match error {
            mimeo_image::FindError::Ambiguous { .. } => ApiError::new(409, "ambiguous-id", chain(&error))
                .with_hint("give the full name, or more digits"),
            _ => ApiError::new(500, "store-failed", chain(&error)),
        })
    });
    found.await?.ok_or_else(|| ApiError::not_found("image", name))
}
