//! Named volumes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mimeo_engine::act;
use mimeo_engine::volumes::{Volume, VolumeRequest};
use mimeo_manager_api::{CreateVolume, Item, Items, NamedVolume};
use utoipa_axum::routes;

use crate::App;
use crate::database::{After, VolumeRow};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Routes, page};
use crate::problems;
use crate::volumes;

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(list))
        .add(Policy::Write, routes!(create))
        .add(Policy::Read, routes!(get))
        .add(Policy::Write, routes!(delete))
}

/// Lists volumes by their names, a page at a time.
#[utoipa::path(get, path = "/", tag = "volumes", operation_id = "list_volumes",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("label" = Option<Vec<String>>, Query, description = "`KEY` or `KEY=VALUE`; can be repeated"),
        ("owner" = Option<String>, Query, description = "Only volumes of this user"),
    ),
    responses((status = 200, description = "A page of volumes.", body = Items<NamedVolume>)))]
async fn list(State(app): State<App>, caller: Caller, mut query: Query) -> Result<Json<Items<NamedVolume>>> {
    let limit = page::limit(&mut query)?;
    let owner = super::machines::owner(&mut query, &caller)?;
    let labels = super::machines::labels(&mut query)?;
    let after = page::cursor(&mut query)?;
    query.finish()?;
    let store = app.engine().volumes();
    let listed = volumes::blocking(move || store.list()).await;
    let mut found = listed.map_err(|error| problems::volume_problem(&error))?;
    let owners = app.database().volume_owners().await?;
    found.retain(|volume| {
        owner.as_ref().is_none_or(|owner| volumes::owner(&owners, volume) == owner)
            && labels.iter().all(|label| has_label(volume, label))
            && after.as_ref().is_none_or(|after| volume.name.as_str() > &*after.id)
    });
    found.truncate(usize::try_from(limit + 1).unwrap_or(usize::MAX));
    let items = volumes::items(&app, found).await?;
    let place = |item: &NamedVolume| After { key: String::new(), id: item.name.clone() };
    Ok(Json(page::page(items, limit, place, |item| item)))
}

fn has_label(volume: &Volume, (key, value): &(String, Option<String>)) -> bool {
    volume.labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
}

/// Creates a volume.
#[utoipa::path(post, path = "/", tag = "volumes", operation_id = "create_volume", request_body = CreateVolume,
    responses((status = 201, description = "The volume was created.", body = Item<NamedVolume>)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    query: Query,
    Json(request): Json<CreateVolume>,
) -> Result<Response> {
    query.finish()?;
    let name = request.name.as_deref().map(str::parse).transpose();
    let name =
        name.map_err(|error| ApiError::new(422, "invalid-field", format!("cannot use name: {error}")))?;
    let (labels, options) = (request.labels, Default::default());
    let request = VolumeRequest { name, labels, options, bytes: request.size_bytes };
    let volume = volumes::create(&app, &caller, request).await?;
    let item = volumes::items(&app, vec![volume]).await?.remove(0);
    let location = format!("/v1/volumes/{}", item.name);
    let mut response = Json(Item { item }).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(axum::http::header::LOCATION, location);
    }
    Ok(response)
}

/// Reads a volume.
#[utoipa::path(get, path = "/{name}", tag = "volumes", operation_id = "get_volume",
    params(("name" = String, Path, description = "The volume's name")),
    responses((status = 200, description = "The volume.", body = Item<NamedVolume>)))]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Item<NamedVolume>>> {
    query.finish()?;
    let volume = volumes::find(&app, &caller, &name).await?;
    Ok(Json(Item { item: volumes::items(&app, vec![volume]).await?.remove(0) }))
}

/// Removes a volume that no machine refers to, with its content.
#[utoipa::path(delete, path = "/{name}", tag = "volumes", operation_id = "delete_volume",
    params(("name" = String, Path, description = "The volume's name")),
    responses(
        (status = 200, description = "The volume was removed.", body = Item<NamedVolume>),
        (status = 409, description = "Machines refer to it; `detail` names them."),
    ))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Item<NamedVolume>>> {
    query.finish()?;
    let _turn = volumes::take_turn(&app, &name).await;
    let volume = volumes::find(&app, &caller, &name).await?;
    let item = volumes::items(&app, vec![volume.clone()]).await?.remove(0);
    let removed = act::remove_volume(app.engine(), &volume.name, false, None).await;
    removed.map_err(|error| problems::act_problem(&error))?;
    let row = VolumeRow {
        name: item.name.clone(),
        owner: item.owner.clone(),
        created_at: volume.created.as_microsecond(),
        bytes: Some(volume.bytes),
    };
    volumes::record_removed(&app, &row, &caller.name).await?;
    Ok(Json(Item { item }))
}
