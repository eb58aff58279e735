//! `GET …/console`: the guest's serial console.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::machine::Found;
use mimeo_manager_api::ConsoleMessage;
use tokio::task::spawn_blocking;

use crate::App;
use crate::find_machine::{find, recorded};
use crate::follow::{self, Position, RotatedFile, has_ended};
use crate::http::query::Query;
use crate::http::web_socket::{Gone, Reader, Received, Upgrade, WebSocket, Writer, close};
use crate::http::{ApiError, Caller, Result, Rights};

/// Reads a guest's serial console over a WebSocket.
///
/// Binary messages are its output. After each of them a text message says where it was read up to:
/// `{"type":"offset","offset":"…"}`. After the last one comes `{"type":"end"}`, and the manager closes the WebSocket.
/// The latest 2 MiB are kept. The console is read-only: no guest of mimeo's reads it.
#[utoipa::path(get, path = "/{id}/console", tag = "machines", operation_id = "console",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("offset" = Option<String>, Query, description = "Only what follows this offset"),
        ("follow" = Option<bool>, Query, description = "Wait for more output while the machine runs; true by default"),
    ),
    responses((status = 101, description = "The WebSocket. Its subprotocol is `mimeo.v1`; the token may be in another one, `mimeo.token.TOKEN`.")))]
pub(super) async fn console(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    mut query: Query,
    upgrade: Upgrade,
) -> Result<Response> {
    let offset: Option<Position> = query.take_parsed("offset")?;
    let is_following = query.take_parsed("follow")?.unwrap_or(true);
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = recorded(&app, &row)?;
    let session_app = app.clone();
    upgrade.serve(&app, async move |mut socket| {
        let console = follow::console(found.dir.clone(), offset);
        match rights.during(serve(&session_app, &found, &mut socket, console, is_following)).await {
            Ok(end) => finish(socket, end).await,
            Err(why) => socket.refuse(&why).await,
        }
    })
}

/// How a session ended.
enum End {
    Complete,
    Failed(ApiError),
    ClientGone,
    ManagerEnds,
}

async fn serve(
    app: &App,
    found: &Found,
    socket: &mut WebSocket,
    console: RotatedFile,
    is_following: bool,
) -> End {
    let WebSocket { writer, reader } = socket;
    tokio::select! {
        sent = send(app, found, writer, console, is_following) => match sent {
            Ok(end) => end,
            Err(Gone) => End::ClientGone,
        },
        end = refuse_input(reader) => end,
        () = app.end().cancelled() => End::ManagerEnds,
    }
}

async fn send(
    app: &App,
    found: &Found,
    writer: &mut Writer,
    mut console: RotatedFile,
    is_following: bool,
) -> std::result::Result<End, Gone> {
    loop {
        let is_last = !is_following || has_ended(app, &found.record.id);
        loop {
            let read = spawn_blocking(move || {
                let chunk = console.read();
                (console, chunk)
            });
            let chunk;
            (console, chunk) = match read.await {
                Ok(read) => read,
                Err(error) => return Ok(failed(&error)),
            };
            let chunk = match chunk {
                Ok(chunk) if chunk.bytes.is_empty() => break,
                Ok(chunk) => chunk,
                Err(error) => return Ok(failed(&error)),
            };
            let offset = chunk.end().map(|end| end.to_string()).unwrap_or_default();
            let gap = chunk.gap;
            writer.bytes(chunk.bytes.into()).await?;
            writer.json(&ConsoleMessage::Offset { offset, gap }).await?;
        }
        if is_last {
            return Ok(End::Complete);
        }
        writer.ping_during(follow::next_look()).await?;
    }
}

fn failed(error: &dyn std::error::Error) -> End {
    End::Failed(ApiError::new(500, "machine-failed", format!("cannot read the console: {error}")))
}

async fn refuse_input(reader: &mut Reader) -> End {
    match reader.next().await {
        Ok(Received::Text(_) | Received::Binary(_)) => End::Failed(ApiError::new(
            405,
            "console-read-only",
            "cannot write to the console: it is read-only",
        )),
        Err(Gone) => End::ClientGone,
    }
}

async fn finish(mut socket: WebSocket, end: End) {
    let (message, code) = match end {
        End::Complete => (ConsoleMessage::End, close::NORMAL),
        End::Failed(error) => {
            let problem = error.problem().clone();
            let code = close::PROBLEM + problem.status;
            (ConsoleMessage::Error { problem }, code)
        }
        End::ManagerEnds => return socket.close(close::GOING_AWAY, "the manager ends").await,
        End::ClientGone => return,
    };
    if socket.writer.json(&message).await.is_ok() {
        socket.close(code, "").await;
    }
}
