//! A machine in the background: its supervisor is another process of this program.

use std::process::Stdio;

use mimeo_engine::launch_request::{AttachingClient, LaunchRequest};
use mimeo_engine::{MachineId, MachineSpec, own_program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};

use super::{FileOptions, RunRequest};
use crate::backend::Host;
use crate::commands::attach::attach;
use crate::error::CliError;
use crate::interruption::interruption;
use crate::logging::{LOG_VARIABLE, LogLevel};
use crate::{output, terminal};

/// Starts the machine and prints its id once its container runs.
pub(super) async fn run(request: RunRequest) -> Result<i32, CliError> {
    let RunRequest { spec, files, quiet, level, .. } = request;
    let request = run_request(spec, quiet, None);
    match start_with_files(request, &files, level).await? {
        Launched::Running { id, .. } => {
            output::line(&id)?;
            Ok(0)
        }
        Launched::Failed(code) => Ok(code),
    }
}

/// Starts the machine and attaches this process to it until it exits or the user detaches.
pub(super) async fn run_attached(host: &Host, request: RunRequest) -> Result<i32, CliError> {
    let RunRequest { spec, files, quiet, options, level, .. } = request;
    let client = Some(AttachingClient::own(spec.tty.then(terminal::size)));
    let request = run_request(spec, quiet, client);
    let id = match start_with_files(request, &files, level).await? {
        Launched::Running { id, .. } => MachineId::try_from(id)?,
        Launched::Failed(code) => return Ok(code),
    };
    let gone = || CliError::usage(format!("machine {} was removed", id.short()));
    let found = host.read(&id).await?.ok_or_else(gone)?;
    if options.output.is_empty() {
        output::line(id.as_str())?;
    }
    attach(host, &found, options).await
}

fn run_request(spec: MachineSpec, quiet: bool, client: Option<AttachingClient>) -> LaunchRequest {
    let spec = Box::new(spec);
    LaunchRequest::Run { spec, quiet, client, id: None, report: false, registry_login: None }
}

/// The result of a start.
enum Launched {
    /// The container runs; the machine's id, and its supervisor's process id.
    Running { id: String, pid: u32 },
    /// The supervisor has printed the error to our standard error; its exit code.
    Failed(i32),
}

/// Starts the machine, and writes the files for it.
async fn start_with_files(
    request: LaunchRequest,
    files: &FileOptions,
    level: LogLevel,
) -> Result<Launched, CliError> {
    let launched = start(request, level).await;
    match &launched {
        Ok(Launched::Running { id, pid }) => files.write(id, Some(*pid))?,
        Ok(Launched::Failed(_)) | Err(_) => files.give_up(),
    }
    launched
}

/// Starts the supervisor and waits until the container runs. Until then the supervisor watches a pipe from this process:
/// if this process ends, the supervisor undoes the start.
async fn start(request: LaunchRequest, level: LogLevel) -> Result<Launched, CliError> {
    let mut program = own_program().map_err(|source| CliError::io("find this program", source))?;
    let mut child = program
        .arg("supervisor")
        // In the environment, so that the command line in `ps` stays short.
        .env(LOG_VARIABLE, level.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| CliError::io("start the machine's supervisor", source))?;
    let pid = child.id().unwrap_or_default();
    let mut request = serde_json::to_vec(&request)?;
    request.push(b'\n');
    let mut stdin = child.stdin.take().ok_or_else(|| talk_error(std::io::ErrorKind::BrokenPipe.into()))?;
    stdin.write_all(&request).await.map_err(talk_error)?;
    let id = tokio::select! {
        id = read_id(&mut child) => id?,
        signal = interruption() => return interrupt(child, stdin, signal).await,
    };
    if !id.is_empty() {
        return Ok(Launched::Running { id, pid });
    }
    let status = child.wait().await.map_err(talk_error)?;
    Ok(Launched::Failed(status.code().unwrap_or(125)))
}

async fn read_id(child: &mut Child) -> Result<String, CliError> {
    let mut id = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut id).await.map_err(talk_error)?;
    }
    Ok(id.trim_end().to_owned())
}

fn talk_error(source: std::io::Error) -> CliError {
    CliError::io("talk to the machine's supervisor", source)
}

/// Cancels the start, and waits until the supervisor has undone it.
async fn interrupt(mut child: Child, stdin: ChildStdin, signal: i32) -> Result<Launched, CliError> {
    drop(stdin);
    child.wait().await.map_err(talk_error)?;
    Ok(Launched::Failed(128 + signal))
}
