//! A machine in the background: its supervisor is another process of this program.

use std::process::Stdio;

use mimeo_engine::MachineSpec;
use mimeo_engine::launch_request::LaunchRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::error::CliError;
use crate::logging::{LOG_VARIABLE, LogLevel};
use crate::output;

/// Starts the supervisor and prints the machine's id once its container runs.
/// Until then the supervisor watches a pipe from this process: if this process
/// ends, the supervisor undoes the start.
pub(super) async fn run(spec: MachineSpec, quiet: bool, level: LogLevel) -> Result<i32, CliError> {
    let program = std::env::current_exe().map_err(|source| CliError::io("find this program", source))?;
    let mut child = Command::new(program)
        .arg("supervisor")
        // In the environment, so that the command line in `ps` stays short.
        .env(LOG_VARIABLE, level.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| CliError::io("start the machine's supervisor", source))?;
    let io = |source| CliError::io("talk to the machine's supervisor", source);
    let mut order = serde_json::to_vec(&LaunchRequest::Run { spec: Box::new(spec), quiet })?;
    order.push(b'\n');
    let mut stdin = child.stdin.take().ok_or_else(|| io(std::io::ErrorKind::BrokenPipe.into()))?;
    stdin.write_all(&order).await.map_err(io)?;
    let mut id = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut id).await.map_err(io)?;
    }
    if !id.is_empty() {
        output::bytes(id.as_bytes())?;
        return Ok(0);
    }
    // The supervisor has printed the error to our standard error.
    let status = child.wait().await.map_err(io)?;
    Ok(status.code().unwrap_or(125))
}
