//! `GET …/files`: the content of a file, or a directory as an archive.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use mimeo_agent_protocol::link::{Item, LinkError, Stream};
use mimeo_agent_protocol::message::{FileType, Reply, Request};

use super::path::take_path;
use super::{connect, stat, unexpected};
use crate::App;
use crate::http::body::{BodyError, BodySender, break_off, streamed};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Result, Rights};
use crate::problems;

/// The media type of archives.
pub(super) const TAR: &str = "application/x-tar";

/// Reads a file of a running machine's container; links are followed.
///
/// With `format=tar`, or `Accept: application/x-tar`, the answer is an archive: of a directory, what is in it, under
/// names that begin with `./`, without what is mounted below it; of a file, the file. If the file gets shorter
/// meanwhile, the machine exits, or the rights of the client end, the answer breaks off.
#[utoipa::path(get, path = "/{id}/files", tag = "files", operation_id = "read_file",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("path" = String, Query, description = "The absolute path in the container"),
        ("format" = Option<String>, Query, description = "`raw` or `tar`; `raw` by default"),
    ),
    responses((status = 200, description = "The content.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let path = take_path(&mut query)?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_tar = takes_tar(&mut query)?.unwrap_or_else(|| accept.trim().starts_with(TAR));
    query.finish()?;
    let client = connect(&app, &caller, &word).await?;
    let request = if is_tar {
        let content = stat(&client, &path, true).await?.kind == FileType::Directory;
        Request::ReadArchive { path, follow: true, content }
    } else {
        Request::ReadFile { path }
    };
    let replied = client.guest(request).await;
    let (reply, stream) = replied.map_err(|error| problems::control_problem(&error))?;
    let (sender, body) = streamed();
    let task_app = app.clone();
    app.spawn(async move { send(&task_app, &rights, stream, sender).await });
    match reply {
        Reply::Done => Ok(([(header::CONTENT_TYPE, TAR)], body).into_response()),
        Reply::File(info) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, info.size.to_string()),
                // A browser must not take it for a page of the manager.
                (header::CONTENT_DISPOSITION, "attachment".to_owned()),
            ];
            Ok((headers, body).into_response())
        }
        reply => Err(unexpected(&reply)),
    }
}

/// Takes `format`.
pub(super) fn takes_tar(query: &mut Query) -> Result<Option<bool>> {
    match query.take("format")?.as_deref() {
        None => Ok(None),
        Some("raw") => Ok(Some(false)),
        Some("tar") => Ok(Some(true)),
        Some(other) => Err(ApiError::invalid(format!("format {other:?} is neither raw nor tar"))),
    }
}

/// Sends the guest's data, as fast as the client reads it.
async fn send(app: &App, rights: &Rights, mut stream: Stream, sender: BodySender) {
    let gone = sender.clone();
    let sending = async {
        while let Some(piece) = next(&mut stream).await.transpose() {
            let is_failed = piece.is_err();
            if sender.send(piece).await.is_err() || is_failed {
                return;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = gone.closed() => {}
        why = rights.ended() => break_off(&gone, &why).await,
        () = app.end().cancelled() => {}
    }
}

/// The next piece; `None` at the end of the data.
async fn next(stream: &mut Stream) -> std::result::Result<Option<bytes::Bytes>, BodyError> {
    loop {
        match stream.receiver.next().await? {
            Some(Item::Data { bytes, .. }) => return Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Some(Item::Message(json)) => {
                if let Ok(Reply::Failed(failure)) = serde_json::from_slice(&json) {
                    return Err(failure.into());
                }
            }
            None => return Err(LinkError::Closed.into()),
        }
    }
}
