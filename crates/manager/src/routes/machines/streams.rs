//! Processes over WebSockets: `exec` and `attach`.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_agent_protocol::message::{Input, Reply, Request, TerminalSize};
use mimeo_engine::launch_request::AttachingClient;
use mimeo_engine::machine::Found;
use mimeo_engine::{ControlClient, act};
use mimeo_manager_api::stream::{AttachRequest, ServerMessage};
use mimeo_manager_api::{ExecRequest, ResourceKind};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::App;
use crate::audit::audit;
use crate::database::{MachineRow, resource};
use crate::find_machine::{find, in_engine};
use crate::guest;
use crate::http::query::Query;
use crate::http::web_socket::{Gone, Upgrade, WebSocket};
use crate::http::{ApiError, Caller, Policy, Result, Rights};
use crate::operations::{self, OperationRequest};
use crate::problems;
use crate::process_session::{self, SessionEnd, SessionOptions};
use crate::run_command;

/// How long the exit of a machine may take after that of its process.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a command in a running machine's container over a WebSocket.
///
/// The first message of the client is text, an `ExecRequest`. Binary messages begin with their channel: 0 is standard
/// input, 1 standard output, 2 standard error; no more bytes on channel 0 are the end of the input. Text messages are
/// JSON: `{"type":"resize","rows":24,"columns":80}` and `{"type":"signal","signal":15}` of the client,
/// `{"type":"started","pid":7,"tty":false}`, `{"type":"exit","code":0}` and `{"type":"error","problem":{…}}` of the
/// manager, which closes the WebSocket then (1000, or 4000 plus the problem's status). A client that reads nothing for
/// long sends pings: one that has sent nothing for 60 s is gone. If the client is gone, a process with a terminal gets
/// SIGHUP, and another one continues; so it is when the rights of the client end (4401 or 4403). Signals and sizes overtake
/// 1 MiB of input that the process has not read.
#[utoipa::path(get, path = "/{id}/exec", tag = "machines", operation_id = "exec_stream",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 101, description = "The WebSocket. Its subprotocol is `mimeo.v1`; the token may be in another one, `mimeo.token.TOKEN`.")))]
pub(super) async fn exec(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    query: Query,
    upgrade: Upgrade,
) -> Result<Response> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    let client = guest::connect(&app, &found).await?;
    let session_app = app.clone();
    upgrade.serve(&app, async move |mut socket| {
        match rights.during(exec_session(&session_app, &found, client, &mut socket)).await {
            Ok(end) => process_session::finish(socket, end).await,
            Err(why) => socket.refuse(&why).await,
        }
    })
}

async fn exec_session(app: &App, found: &Found, client: ControlClient, socket: &mut WebSocket) -> SessionEnd {
    match begin_exec(app, found, client, socket).await {
        Ok(end) => end,
        Err(error) => SessionEnd::Failed(Box::new(error.problem().clone())),
    }
}

async fn begin_exec(
    app: &App,
    found: &Found,
    client: ControlClient,
    socket: &mut WebSocket,
) -> Result<SessionEnd> {
    let request: ExecRequest = socket.request().await?;
    run_command::check_command(&request)?;
    if request.stdin.is_some() {
        return Err(ApiError::new(422, "invalid-field", "stdin: over a WebSocket send it on channel 0"));
    }
    let deadline = run_command::timeout(&request)?.map(|timeout| Instant::now() + timeout);
    let (stdin, tty) = (request.interactive, request.tty);
    let starting = client.guest(Request::Exec(run_command::process(found, request)));
    let started = match deadline {
        Some(deadline) => timeout_at(deadline, starting)
            .await
            .map_err(|_| ApiError::new(504, "start-timeout", "the command has not started in time"))?,
        None => starting.await,
    };
    let (reply, stream) = started.map_err(|error| problems::control_problem(&error))?;
    let Reply::Started { pid } = reply else {
        return Err(ApiError::new(502, "connection-lost", format!("unexpected reply: {reply:?}")));
    };
    if let Err(Gone) = socket.writer.json(&ServerMessage::Started { pid: Some(pid), tty }).await {
        return Ok(SessionEnd::ClientGone);
    }
    Ok(process_session::run(app, socket, stream, SessionOptions { stdin, deadline }).await)
}

/// Attaches to the container's own process over a WebSocket.
///
/// The first message of the client is text, an `AttachRequest`; the others are as those of `exec`. Several clients may
/// be attached; each receives the output from then on. A client that does not read it is detached after 10 s. If a
/// client is gone, the process continues.
#[utoipa::path(get, path = "/{id}/attach", tag = "machines", operation_id = "attach",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 101, description = "The WebSocket. Its subprotocol is `mimeo.v1`; the token may be in another one, `mimeo.token.TOKEN`.")))]
pub(super) async fn attach(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    query: Query,
    upgrade: Upgrade,
) -> Result<Response> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    let session_app = app.clone();
    upgrade.serve(&app, async move |mut socket| {
        match rights.during(attach_session(&session_app, &caller, &row, found, &mut socket)).await {
            Ok(end) => process_session::finish(socket, end).await,
            Err(why) => socket.refuse(&why).await,
        }
    })
}

async fn attach_session(
    app: &App,
    caller: &Caller,
    row: &MachineRow,
    found: Found,
    socket: &mut WebSocket,
) -> SessionEnd {
    match begin_attach(app, caller, row, found, socket).await {
        Ok(end) => end,
        Err(error) => SessionEnd::Failed(Box::new(error.problem().clone())),
    }
}

async fn begin_attach(
    app: &App,
    caller: &Caller,
    row: &MachineRow,
    mut found: Found,
    socket: &mut WebSocket,
) -> Result<SessionEnd> {
    let request: AttachRequest = socket.request().await?;
    let size = terminal_size(request)?;
    if request.start {
        Policy::Write.check(caller)?;
        found = start_for_client(app, caller, row, found, size).await?;
    }
    let client = guest::connect(app, &found).await?;
    let spec = &found.record.spec;
    let stdin = request.stdin && spec.interactive;
    let control_problem = |error| problems::control_problem(&error);
    let exit = client.watch_exit().map_err(control_problem)?;
    let stream = client.attach(stdin).map_err(control_problem)?;
    if let Some(size) = size.filter(|_| spec.tty) {
        stream.sender.message(&Input::Resize(size));
    }
    if let Err(Gone) = socket.writer.json(&ServerMessage::Started { pid: None, tty: spec.tty }).await {
        return Ok(SessionEnd::ClientGone);
    }
    let end =
        process_session::run(app, socket, stream, SessionOptions { stdin: request.stdin, deadline: None })
            .await;
    let is_over = match &end {
        SessionEnd::Exited { .. } => true,
        SessionEnd::Failed(problem) => problem.code == "connection-lost",
        SessionEnd::ClientGone | SessionEnd::ManagerEnds => false,
    };
    if !is_over {
        return Ok(end);
    }
    // Without a status, the machine's exit says what happened.
    Ok(match timeout(EXIT_TIMEOUT, exit).await {
        Ok(Ok(exit)) => SessionEnd::Exited {
            status: mimeo_agent_protocol::message::ExitStatus::Code(exit.code),
            timed_out: false,
        },
        _ => end,
    })
}

/// Starts a machine whose output waits for a client that attaches next. It is no operation, which the next manager would take up:
/// if this one ends, its client is gone.
async fn start_for_client(
    app: &App,
    caller: &Caller,
    row: &MachineRow,
    found: Found,
    size: Option<TerminalSize>,
) -> Result<Found> {
    operations::check_idle(app, row, &OperationRequest::Start)?;
    // No operation is carried out meanwhile.
    let _turn = app.turns().take(found.record.id.as_str()).await;
    let (id, name) = (&*row.item.id, &row.item.name);
    let now = app.database().machine(id).await?.ok_or_else(|| ApiError::not_found("machine", id))?;
    operations::check_idle(app, &now, &OperationRequest::Start)?;
    let data = json!({ "name": name, "request": "attach" });
    let machine = resource(ResourceKind::Machine, id);
    audit(app, caller, "machine.start_requested", &now.item.owner, machine, data).await?;
    let started = act::start(app.engine(), &found, Some(AttachingClient::own(size))).await;
    started.map_err(|error| problems::act_problem(&error))?;
    Ok(app.engine().registry().read(&found.record.id).unwrap_or(found))
}

fn terminal_size(request: AttachRequest) -> Result<Option<TerminalSize>> {
    match (request.rows, request.columns) {
        (None, None) => Ok(None),
        (Some(rows @ 1..), Some(cols @ 1..)) => Ok(Some(TerminalSize { rows, cols })),
        _ => Err(ApiError::new(422, "invalid-field", "rows and columns: give both, at least 1")),
    }
}
