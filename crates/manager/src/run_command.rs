//! Runs a command in a machine's container and collects its output.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender};
use mimeo_agent_protocol::message::{ExitStatus, Input, Process, Reply, TerminalSize, channel};
use mimeo_engine::machine::Found;
use mimeo_engine::{ControlClient, act};
use mimeo_manager_api::{Encoding, ExecRequest, ExecResult};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::exec_process::{ExecProcess, connection_lost};

/// Bytes of each output stream that are kept.
const MAX_OUTPUT: usize = 1 << 20;
/// Bytes of input that are sent at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Linux's number of SIGKILL.
const SIGKILL: i32 = 9;
/// The size of a terminal whose size is not given.
pub(crate) const TERMINAL: TerminalSize = TerminalSize { rows: 24, cols: 80 };

/// Runs the command, over the connection that `connect` makes, until it ends, or until its time is over. If the result is not
/// waited for, it is killed.
pub(crate) async fn run(
    app: &App,
    found: &Found,
    request: ExecRequest,
    connect: impl Future<Output = Result<ControlClient>>,
) -> Result<ExecResult> {
    check_command(&request)?;
    let stdin = stdin(&request)?;
    let begin = Instant::now();
    let deadline = timeout(&request)?.map(|timeout| begin + timeout);
    let encoding = request.encoding;
    let process = process(found, request);
    let start = async { start(app, connect.await?, process).await };
    let mut process = before(deadline, start).await?;
    let end = collect(&mut process, stdin, deadline).await?;
    process.ended();
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

/// Refuses a request without a program, and a size without a terminal.
pub(crate) fn check_command(request: &ExecRequest) -> Result<()> {
    let invalid = |detail| Err(ApiError::new(422, "invalid-field", detail));
    if request.command.is_empty() {
        return invalid("command: it is empty");
    }
    match (request.rows, request.columns) {
        (None, None) => Ok(()),
        _ if !request.tty => invalid("rows and columns: without tty there is no terminal"),
        (Some(1..), Some(1..)) => Ok(()),
        _ => invalid("rows and columns: give both, at least 1"),
    }
}

async fn start(app: &App, client: ControlClient, process: Process) -> Result<ExecProcess> {
    let mut process = ExecProcess::begin(app, client, process)?;
    process.started().await?;
    Ok(process)
}

async fn before<T>(deadline: Option<Instant>, start: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else { return start.await };
    match timeout_at(deadline, start).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(504, "start-timeout", "the command has not started in time")
            .with_hint("give it more time (timeout_seconds); the machine may be overloaded")),
    }
}

/// The process to run.
pub(crate) fn process(found: &Found, request: ExecRequest) -> Process {
    let size = request.rows.zip(request.columns).map(|(rows, cols)| TerminalSize { rows, cols });
    let process = act::ExecProcess {
        command: request.command,
        env: request.env,
        workdir: request.workdir,
        user: request.user,
        terminal: request.tty.then(|| size.unwrap_or(TERMINAL)),
        stdin: request.stdin.is_some() || request.interactive,
        privileged: request.privileged,
    };
    process.in_machine(&found.record)
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

/// The time that the request gives its command.
pub(crate) fn timeout(request: &ExecRequest) -> Result<Option<Duration>> {
    let Some(seconds) = request.timeout_seconds else { return Ok(None) };
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(86400) => Ok(Some(timeout)),
        _ => Err(ApiError::new(422, "invalid-field", "timeout_seconds: it is not between 0.001 and 86400")),
    }
}

/// Completes when the time is over.
pub(crate) async fn time_over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
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

async fn collect(process: &mut ExecProcess, stdin: Option<Bytes>, deadline: Option<Instant>) -> Result<End> {
    let (sender, receiver) = process.streams()?;
    let sender = &*sender;
    let (mut stdout, mut stderr) = (Output::default(), Output::default());
    let (status, timed_out) = {
        let killing = async {
            time_over(deadline).await;
            sender.message(&Input::Signal { signal: SIGKILL });
        };
        let reading = read(receiver, &mut stdout, &mut stderr);
        let feeding = feed(sender, stdin);
        tokio::pin!(killing, reading, feeding);
        let (mut is_fed, mut is_killed) = (false, false);
        loop {
            tokio::select! {
                status = &mut reading => break (status?, is_killed),
                () = &mut feeding, if !is_fed => is_fed = true,
                () = &mut killing, if !is_killed => is_killed = true,
            }
        }
    };
    Ok(End { status, timed_out, stdout, stderr })
}

/// Sends the process its input. The process may end without reading it.
async fn feed(sender: &Sender, stdin: Option<Bytes>) {
    let Some(mut bytes) = stdin else { return };
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        if sender.data(channel::STDIN, chunk).await.is_err() {
            return;
        }
    }
    sender.data(channel::STDIN, Bytes::new()).await.ok();
}

/// Reads the process's output until it has ended.
async fn read(receiver: &mut Receiver, stdout: &mut Output, stderr: &mut Output) -> Result<ExitStatus> {
    loop {
        match receiver.next().await.map_err(|error| connection_lost(&error))? {
            Some(Item::Data { channel: channel::STDERR, bytes }) => stderr.add(&bytes),
            Some(Item::Data { bytes, .. }) => stdout.add(&bytes),
            Some(Item::Message(json)) => match serde_json::from_slice(&json) {
                Ok(Reply::Exited { status }) => return Ok(status),
                Ok(Reply::Failed(failure)) => {
                    return Err(ApiError::new(500, "guest-failed", failure.to_string()));
                }
                _ => {}
            },
            None => return Err(connection_lost(&LinkError::Closed)),
        }
    }
}

fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
}
