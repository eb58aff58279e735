//! `PUT …/files`: writes a file, or unpacks an archive.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use mimeo_agent_protocol::link::Sender;
use mimeo_agent_protocol::message::{NewFile, Reply, Request, channel};
use mimeo_engine::ControlClient;
use mimeo_manager_api::{FileItem, Item};

use super::get::takes_tar;
use super::path::{mode, take_path};
use super::{connect, item, request, stat, unexpected};
use crate::App;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::problems;

/// How long a client may send nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes a file of a running machine's container: the body is its content.
///
/// A file is replaced at once, when all of its content has arrived; if the request breaks off, nothing has changed. A
/// file that is itself a mount point is overwritten in place instead. A link is followed. An archive (`format=tar`) is
/// unpacked into the directory `path` entry by entry: if the request breaks off, the entries before that are there.
#[utoipa::path(put, path = "/{id}/files", tag = "files", operation_id = "write_file",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("path" = String, Query, description = "The absolute path in the container"),
        ("format" = Option<String>, Query, description = "`raw`, or `tar` for an archive; `raw` by default"),
        ("mode" = Option<String>, Query, description = "Permission bits, an octal number; by default those of the replaced file, or 0644"),
        ("uid" = Option<u32>, Query, description = "The owner; by default that of the replaced file, or root"),
        ("gid" = Option<u32>, Query, description = "The group; likewise"),
        ("parents" = Option<bool>, Query, description = "Create missing directories; false by default"),
    ),
    responses((status = 200, description = "The file, or the directory.", body = Item<FileItem>)))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
    body: Body,
) -> Result<Json<Item<FileItem>>> {
    let is_tar = takes_tar(&mut query)?.unwrap_or_default();
    let file = new_file(&mut query)?;
    query.finish()?;
    if is_tar && (file.mode.is_some() || file.uid.is_some() || file.gid.is_some()) {
        return Err(ApiError::invalid("mode, uid and gid are those of the archive's entries"));
    }
    let client = connect(&app, &caller, &word).await?;
    let path = file.path.clone();
    if is_tar {
        if file.parents {
            request(&client, Request::MakeDirectory(file)).await?;
        }
        // Refuses what is no directory of the container.
        stat(&client, &path, true).await?;
        upload(&client, Request::WriteArchive { directory: path.clone() }, body).await?;
    } else {
        upload(&client, Request::WriteFile(file), body).await?;
    }
    Ok(Json(Item { item: item(stat(&client, &path, true).await?) }))
}

fn new_file(query: &mut Query) -> Result<NewFile> {
    Ok(NewFile {
        path: take_path(query)?,
        mode: query.take("mode")?.map(|text| mode(&text)).transpose()?,
        uid: query.take_parsed("uid")?,
        gid: query.take_parsed("gid")?,
        parents: query.take_parsed("parents")?.unwrap_or_default(),
    })
}

/// Sends the body with a request, as fast as the guest takes it.
async fn upload(client: &ControlClient, request: Request, body: Body) -> Result<()> {
    let mut stream = client.stream(request).map_err(|error| problems::control_problem(&error))?;
    let reply = {
        let replying = client.first_reply(&mut stream.receiver);
        let sending = send(&stream.sender, body);
        tokio::pin!(replying, sending);
        tokio::select! {
            // The guest may refuse before it has everything.
            reply = &mut replying => reply,
            sent = &mut sending => {
                sent?;
                replying.await
            }
        }
    };
    match reply.map_err(|error| problems::control_problem(&error))? {
        Reply::Done => Ok(()),
        reply => Err(unexpected(&reply)),
    }
}

async fn send(sender: &Sender, body: Body) -> Result<()> {
    let mut pieces = body.into_data_stream();
    loop {
        let piece = tokio::time::timeout(IDLE_TIMEOUT, pieces.next()).await.map_err(|_| {
            let detail = format!("the request's body stood still for {} s", IDLE_TIMEOUT.as_secs());
            ApiError::new(408, "body-timeout", detail)
        })?;
        let bytes = match piece {
            Some(Ok(bytes)) if bytes.is_empty() => continue,
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => {
                let detail = format!("cannot read the request's body: {error}");
                return Err(ApiError::new(400, "invalid-body", detail));
            }
            None => Bytes::new(),
        };
        let is_last = bytes.is_empty();
        // If the guest has stopped reading, its reply says why.
        if sender.data(channel::STDIN, bytes).await.is_err() || is_last {
            return Ok(());
        }
    }
}
