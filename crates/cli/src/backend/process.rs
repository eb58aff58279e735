//! The streams of a process in a machine.

use async_trait::async_trait;
use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{Input, Reply, channel};

use crate::stdio::ClientError;

/// Both directions of a process's streams.
pub(crate) struct ProcessStream {
    pub(crate) input: Box<dyn ProcessInput>,
    pub(crate) output: Box<dyn ProcessOutput>,
}

/// What a client sends to a process.
#[async_trait]
pub(crate) trait ProcessInput: Send + Sync {
    /// Sends a signal or a terminal's size.
    async fn send(&self, input: Input);
    /// Writes to the standard input; no bytes are its end. Fails only if the process has exited.
    async fn write(&self, bytes: Bytes) -> Result<(), ClientError>;
}

/// What a process sends to a client.
#[async_trait]
pub(crate) trait ProcessOutput: Send {
    /// The next item. Cancel-safe.
    async fn next(&mut self) -> Result<ProcessItem, ClientError>;
}

/// What a process has sent.
#[derive(Debug)]
pub(crate) enum ProcessItem {
    Stdout(Bytes),
    Stderr(Bytes),
    /// It has exited with this code.
    Exited(i32),
}

impl From<Stream> for ProcessStream {
    fn from(Stream { sender, receiver }: Stream) -> Self {
        Self { input: Box::new(sender), output: Box::new(receiver) }
    }
}

#[async_trait]
impl ProcessInput for Sender {
    async fn send(&self, input: Input) {
        self.message(&input);
    }

    async fn write(&self, bytes: Bytes) -> Result<(), ClientError> {
        Ok(self.data(channel::STDIN, bytes).await?)
    }
}

#[async_trait]
impl ProcessOutput for Receiver {
    async fn next(&mut self) -> Result<ProcessItem, ClientError> {
        loop {
            match Receiver::next(self).await? {
                Some(Item::Data { channel: channel::STDERR, bytes }) => {
                    return Ok(ProcessItem::Stderr(bytes));
                }
                Some(Item::Data { bytes, .. }) => return Ok(ProcessItem::Stdout(bytes)),
                Some(Item::Message(json)) => match serde_json::from_slice(&json) {
                    Ok(Reply::Exited { status }) => return Ok(ProcessItem::Exited(status.shell_code())),
                    Ok(Reply::Failed(failure)) => return Err(failure.into()),
                    _ => {}
                },
                None => return Err(LinkError::Closed.into()),
            }
        }
    }
}
