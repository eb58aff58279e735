//! Runs a command in a machine's container and collects its output.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Input, Process, Reply, Request, channel};
use mimeo_engine::ControlClient;
use mimeo_engine::machine::Found;
use mimeo_manager_api::{Encoding, ExecRequest, ExecResult, Problem};
use tokio::time::Instant;

use crate::App;
use crate::http::{ApiError, Result};
use crate::problems;

/// Bytes of each output stream that are kept.
const MAX_OUTPUT: usize = 1 << 20;
/// Linux's number of SIGKILL.
const SIGKILL: i32 = 9;

/// Runs the command until it ends, or until its time is over.
pub(crate) async fn run(app: &App, found: &Found, request: ExecRequest) -> Result<ExecResult> {
    if request.command.is_empty() {
        return Err(ApiError::new(422, "invalid-field", "command: it is empty"));
    }
    let stdin = stdin(&request)?;
    let timeout = timeout(&request)?;
    let encoding = request.encoding;
    let client = ControlClient::connect(app.engine().home(), found).await;
    let client = client.map_err(|error| problems::connect_problem(&error))?;
    let begin = Instant::now();
    let process = process(found, request);
    let (_, stream) =
        client.guest(Request::Exec(process)).await.map_err(|error| problems::control_problem(&error))?;
    let end = collect(stream, stdin, timeout.map(|timeout| begin + timeout)).await?;
    Ok(ExecResult {
        exit_code: end.status.shell_code(),
        timed_out: end.timed_out,
        stdout: encode(&end.stdout.kept, encoding),
        stderr: encode(&end.stderr.kept, encoding),
        stdout_bytes: end.stdout.total,
        stderr_bytes: end.stderr.total,
        duration_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The process to run. It has the environment, directory and user of the container's own unless the request says otherwise.
pub(crate) fn process(found: &Found, request: ExecRequest) -> Process {
    let mut process = found.record.exec_defaults();
    process.env.extend(request.env);
    Process {
        args: request.command,
        cwd: request.workdir.unwrap_or(process.cwd),
        user: request.user.unwrap_or(process.user),
        stdin: request.stdin.is_some() || request.interactive,
        privileged: request.privileged,
        ..process
    }
}

fn stdin(request: &ExecRequest) -> Result<Option<Bytes>> {
    let Some(text) = &request.stdin else { return Ok(None) };
    match request.encoding {
        Encoding::Utf8 => Ok(Some(text.clone().into())),
        Encoding::Base64 => STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|error| {
            ApiError::new(422, "invalid-field", format!("stdin: it is not base64: {error}"))
        }),
    }
}

fn timeout(request: &ExecRequest) -> Result<Option<Duration>> {
    let Some(seconds) = request.timeout_seconds else { return Ok(None) };
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(86400) => Ok(Some(timeout)),
        _ => Err(ApiError::new(422, "invalid-field", "timeout_seconds: it is not between 0.001 and 86400")),
    }
}

/// An output stream.
#[derive(Debug, Default)]
struct Output {
    kept: Vec<u8>,
    total: u64,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let space = MAX_OUTPUT - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(space)]);
    }
}

/// How a command ended.
struct End {
    status: ExitStatus,
    timed_out: bool,
    stdout: Output,
    stderr: Output,
}

async fn collect(stream: Stream, stdin: Option<Bytes>, deadline: Option<Instant>) -> Result<End> {
    let Stream { sender, mut receiver } = stream;
    let sender = std::sync::Arc::new(sender);
    let input = sender.clone();
    // The process may end without reading its input.
    let feed = async move {
        let Some(bytes) = stdin else { return };
        for chunk in bytes.chunks(32 * 1024) {
            if input.data(channel::STDIN, Bytes::copy_from_slice(chunk)).await.is_err() {
                return;
            }
        }
        input.data(channel::STDIN, Bytes::new()).await.ok();
    };
    let feed = tokio::spawn(feed);
    let (mut stdout, mut stderr, mut timed_out) = (Output::default(), Output::default(), false);
    let status = loop {
        let time_over = async {
            match deadline.filter(|_| !timed_out) {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            item = receiver.next() => item.map_err(|error| connection_lost(&error))?,
            () = time_over => {
                timed_out = true;
                sender.message(&Input::Signal { signal: SIGKILL });
                continue;
            }
        };
        match item {
            Some(Item::Data { channel: channel::STDERR, bytes }) => stderr.add(&bytes),
            Some(Item::Data { bytes, .. }) => stdout.add(&bytes),
            Some(Item::Message(json)) => match serde_json::from_slice(&json) {
                Ok(Reply::Exited { status }) => break status,
                Ok(Reply::Failed(failure)) => {
                    return Err(ApiError::new(500, "guest-failed", failure.to_string()));
                }
                _ => {}
            },
            None => return Err(connection_lost(&mimeo_agent_protocol::link::LinkError::Closed)),
        }
    };
    feed.abort();
    Ok(End { status, timed_out, stdout, stderr })
}

fn connection_lost(error: &mimeo_agent_protocol::link::LinkError) -> ApiError {
    let detail = format!("the connection to the machine was lost: {error}");
    Problem::new(502, "connection-lost", detail)
        .with_hint("most often the machine has exited meanwhile")
        .into()
}

fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
}
