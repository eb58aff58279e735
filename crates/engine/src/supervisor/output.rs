//! The container's output: written to the log and to the foreground streams.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Link, LinkError, Receiver};
use mimeo_agent_protocol::message::{ExitStatus, Reply, Request, channel};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::attach::AttachedClients;
use crate::log::{LogWriter, Output};

/// The signal that the container gets when its output is no longer read.
const SIGPIPE: i32 = 13;

type Sink = Option<Box<dyn AsyncWrite + Send + Unpin>>;

/// Destinations of the container's output.
pub(super) struct Outputs {
    pub(super) log: LogWriter,
    pub(super) stdout: Sink,
    pub(super) stderr: Sink,
    pub(super) attached: AttachedClients,
    /// The link to the guest, to signal the container when its reader is gone.
    pub(super) link: Link,
}

impl Outputs {
    /// Forwards the output until the container has ended.
    pub(super) async fn forward(
        &mut self,
        mut container: Receiver,
        wait_for_client: bool,
    ) -> Result<ExitStatus, LinkError> {
        if wait_for_client {
            self.attached.wait_for_first().await;
        }
        loop {
            let item = tokio::select! {
                item = container.next() => item?,
                () = self.attached.accept() => continue,
            };
            match item {
                Some(Item::Data { channel: channel::STDERR, bytes }) => {
                    self.write(Output::Stderr, bytes).await
                }
                Some(Item::Data { bytes, .. }) => self.write(Output::Stdout, bytes).await,
                Some(Item::Message(json)) => {
                    if let Ok(Reply::Exited { status }) = serde_json::from_slice(&json) {
                        self.attached.finish(status);
                        return Ok(status);
                    }
                }
                None => return Err(LinkError::Violation("ended the container's stream without its status")),
            }
        }
    }

    async fn write(&mut self, output: Output, bytes: Bytes) {
        if let Err(error) = self.log.write(output, &bytes) {
            tracing::warn!(component = "log", %error, "output is missing from the log");
        }
        let channel = if output == Output::Stderr { channel::STDERR } else { channel::STDOUT };
        self.attached.write(channel, &bytes).await;
        let sink = match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        let Some(writer) = sink else { return };
        if write_and_flush(writer, &bytes).await.is_err() {
            *sink = None;
            // The container gets the signal that it would get from writing to the closed pipe itself. Its
            // reply is not needed; a lost link ends the machine anyway.
            drop(self.link.open(&Request::Signal { signal: SIGPIPE }));
        }
    }
}

async fn write_and_flush(writer: &mut (dyn AsyncWrite + Send + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
