//! `DELETE …/files` and `POST …/files/mkdir`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mimeo_agent_protocol::message::{NewFile, Request};
use mimeo_manager_api::{FileItem, Item, MakeDirectory};

use super::path::{check, mode, take_path};
use super::{connect, item, request, stat};
use crate::App;
use crate::http::query::Query;
use crate::http::{Caller, Json, Result};

/// Removes a file or a directory of a running machine's container. A link is removed itself.
#[utoipa::path(delete, path = "/{id}/files", tag = "files", operation_id = "remove_file",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("path" = String, Query, description = "The absolute path in the container"),
        ("recursive" = Option<bool>, Query, description = "Remove a directory with everything in it; false by default"),
    ),
    responses((status = 204, description = "It was removed.")))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<StatusCode> {
    let path = take_path(&mut query)?;
    let recursive = query.take_parsed("recursive")?.unwrap_or_default();
    query.finish()?;
    let client = connect(&app, &caller, &word).await?;
    request(&client, Request::RemovePath { path, recursive }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Creates a directory in a running machine's container.
#[utoipa::path(post, path = "/{id}/files/mkdir", tag = "files", operation_id = "make_directory",
    request_body = MakeDirectory,
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 201, description = "The directory.", body = Item<FileItem>)))]
pub(super) async fn mkdir(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(directory): Json<MakeDirectory>,
) -> Result<Response> {
    query.finish()?;
    let MakeDirectory { path, mode: bits, uid, gid, parents } = directory;
    check(&path)?;
    let new = NewFile { path, mode: bits.map(|text| mode(&text)).transpose()?, uid, gid, parents };
    let client = connect(&app, &caller, &word).await?;
    let path = new.path.clone();
    request(&client, Request::MakeDirectory(new)).await?;
    let item = item(stat(&client, &path, true).await?);
    Ok((StatusCode::CREATED, Json(Item { item })).into_response())
}
