//! Forwards the container's standard input and its terminal's size.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::Sender;
use mimeo_agent_protocol::message::{Input, TerminalSize, channel};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Size of one read.
const CHUNK_BYTES: usize = 32 * 1024;

/// Connects the container to its input and to its terminal.
pub(super) fn connect(
    tasks: &mut JoinSet<()>,
    stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    size: Option<watch::Receiver<TerminalSize>>,
    container: Arc<Sender>,
) {
    if let Some(stdin) = stdin {
        tasks.spawn(forward_stdin(stdin, container.clone()));
    }
    if let Some(size) = size {
        tasks.spawn(forward_size(size, container));
    }
}

/// Forwards the input until it or the container ends.
async fn forward_stdin(mut stdin: Box<dyn AsyncRead + Send + Unpin>, container: Arc<Sender>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    // A read error counts as the end of the input.
    while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
        if container.data(channel::STDIN, Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return;
        }
    }
    // Signals the end of the input; the container may have ended first.
    container.data(channel::STDIN, Bytes::new()).await.ok();
}

/// Sends each new size of the terminal to the container.
async fn forward_size(mut size: watch::Receiver<TerminalSize>, container: Arc<Sender>) {
    loop {
        let now = *size.borrow_and_update();
        container.message(&Input::Resize(now));
        if size.changed().await.is_err() {
            return;
        }
    }
}
