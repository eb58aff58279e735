//! Retries a failed build in a separate process, so that the start that finds it due does not wait for it.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::launch_request::{LaunchRequest, Retry};
use crate::own_program::own_program;

/// Starts the process, which ends by itself. If it cannot be started, the next attempt is due after another
/// delay.
pub(crate) async fn start_retry(retry: Retry) {
    if let Err(error) = spawn(&LaunchRequest::Retry(retry)).await {
        tracing::warn!(component = "retry", %error, "cannot start the process of a retry");
    }
}

async fn spawn(request: &LaunchRequest) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut process = own_program()?
        .arg("supervisor")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    crate::restore_open_files(process.id());
    match &mut process.stdin {
        Some(stdin) => stdin.write_all(&line).await,
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
