//! The container's output: into the log, and to whoever sits in front.

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Link, LinkError, Receiver};
use mimeo_agent_protocol::message::{ExitStatus, Reply, Request, channel};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::log::{LogWriter, Output};

/// What a process is told when nobody reads its output any more.
const SIGPIPE: i32 = 13;

type Sink = Option<Box<dyn AsyncWrite + Send + Unpin>>;

/// Where the container's output goes.
pub(super) struct Outputs {
    pub(super) log: LogWriter,
    pub(super) stdout: Sink,
    pub(super) stderr: Sink,
    /// The guest, to tell the container that its reader is gone.
    pub(super) link: Link,
}

impl Outputs {
    /// Passes the output on until the container has ended.
    pub(super) async fn forward(mut self, mut container: Receiver) -> Result<ExitStatus, LinkError> {
        loop {
            match container.next().await? {
                Some(Item::Data { channel: channel::STDERR, bytes }) => {
                    self.write(Output::Stderr, bytes).await
                }
                Some(Item::Data { bytes, .. }) => self.write(Output::Stdout, bytes).await,
                Some(Item::Message(json)) => {
                    if let Ok(Reply::Exited { status }) = serde_json::from_slice(&json) {
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
        let sink = match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        let Some(writer) = sink else { return };
        if write_and_flush(writer, &bytes).await.is_err() {
            *sink = None;
            // As if the container itself had written into the closed pipe. It
            // need not answer.
            drop(self.link.open(&Request::Signal { signal: SIGPIPE }));
        }
    }
}

async fn write_and_flush(writer: &mut (dyn AsyncWrite + Send + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
