//! `GET …/files/list` and `GET …/files/stat`.

use axum::extract::{Path, State};
use mimeo_agent_protocol::message::{Reply, Request};
use mimeo_manager_api::{FileItem, Item, Items};

use super::path::take_path;
use super::{connect, item, request, unexpected};
use crate::App;
use crate::http::query::Query;
use crate::http::{Caller, Json, Result, page};

/// Lists a directory of a running machine's container, by the bytes of the names.
#[utoipa::path(get, path = "/{id}/files/list", tag = "files", operation_id = "list_files",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("path" = String, Query, description = "The absolute path in the container"),
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of files.", body = Items<FileItem>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Json<Items<FileItem>>> {
    let path = take_path(&mut query)?;
    let limit = u32::try_from(page::limit(&mut query)?).unwrap_or(u32::MAX);
    let after = query.take("cursor")?;
    query.finish()?;
    let client = connect(&app, &caller, &word).await?;
    match request(&client, Request::ListDirectory { path, after, limit }).await? {
        Reply::Files { files, next } => {
            Ok(Json(Items { items: files.into_iter().map(item).collect(), next_cursor: next }))
        }
        reply => Err(unexpected(&reply)),
    }
}

/// Describes a file of a running machine's container.
#[utoipa::path(get, path = "/{id}/files/stat", tag = "files", operation_id = "stat_file",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("path" = String, Query, description = "The absolute path in the container"),
        ("follow" = Option<bool>, Query, description = "Follow the path if it is a symbolic link; false by default"),
    ),
    responses((status = 200, description = "The file.", body = Item<FileItem>)))]
pub(super) async fn stat(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Json<Item<FileItem>>> {
    let path = take_path(&mut query)?;
    let follow = query.take_parsed("follow")?.unwrap_or_default();
    query.finish()?;
    let client = connect(&app, &caller, &word).await?;
    Ok(Json(Item { item: item(super::stat(&client, &path, follow).await?) }))
}
