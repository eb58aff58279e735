//! mimeo's own standard streams, joined to a container's process.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Input, Reply, TerminalSize, channel};
use mimeo_engine::Attachment;
use tokio::io::{AsyncReadExt, AsyncWriteExt, stderr, stdin, stdout};
use tokio::sync::watch;

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// This process's streams for a machine in the foreground.
pub(crate) fn attachment(interactive: bool, size: Option<watch::Receiver<TerminalSize>>) -> Attachment {
    Attachment {
        stdin: interactive.then(|| Box::new(stdin()) as _),
        stdout: Some(Box::new(stdout())),
        stderr: Some(Box::new(stderr())),
        size,
    }
}

/// Joins this process's streams to a process in a machine until that ends.
pub(crate) async fn join(
    stream: Stream,
    interactive: bool,
    size: Option<watch::Receiver<TerminalSize>>,
) -> Result<ExitStatus, LinkError> {
    let Stream { sender, mut receiver } = stream;
    let output = async {
        loop {
            match receiver.next().await? {
                Some(Item::Data { channel: channel::STDERR, bytes }) => put(stderr(), &bytes).await?,
                Some(Item::Data { bytes, .. }) => put(stdout(), &bytes).await?,
                Some(Item::Message(json)) => {
                    if let Ok(Reply::Exited(status)) = serde_json::from_slice(&json) {
                        return Ok(status);
                    }
                }
                None => return Err(LinkError::Closed),
            }
        }
    };
    let input = async {
        tokio::join!(feed(interactive, &sender), resize(size, &sender));
        std::future::pending().await
    };
    tokio::select! {
        status = output => status,
        never = input => never,
    }
}

async fn put<W: AsyncWriteExt + Unpin>(mut to: W, bytes: &[u8]) -> Result<(), LinkError> {
    to.write_all(bytes).await?;
    Ok(to.flush().await?)
}

async fn feed(interactive: bool, sender: &Sender) {
    if !interactive {
        return;
    }
    let mut from = stdin();
    let mut buffer = vec![0; CHUNK];
    // Input that cannot be read has ended, and so has a process that takes none.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if sender.data(channel::STDIN, Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return;
        }
    }
    sender.data(channel::STDIN, Bytes::new()).await.ok();
}

async fn resize(size: Option<watch::Receiver<TerminalSize>>, sender: &Sender) {
    let Some(mut size) = size else { return };
    loop {
        let now = *size.borrow_and_update();
        sender.message(&Input::Resize(now));
        if size.changed().await.is_err() {
            return;
        }
    }
}
