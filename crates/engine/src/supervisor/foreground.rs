//! The streams of a machine in the foreground. A task of its own writes them, so that a reader that does not
//! read keeps the machine's output back, as a full pipe does, but not the machine's end.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::Request;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::OutputFailure;
use crate::log::Output;

/// The signal that the container gets when its output is no longer read.
const SIGPIPE: i32 = 13;
/// Bytes of output that may wait for the reader; the container blocks when there are more.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Time for the reader of a machine that was told to end to make room for more output.
const READER_TIMEOUT: Duration = Duration::from_millis(500);

/// A stream of the foreground.
pub(super) type Sink = Option<Box<dyn AsyncWrite + Send + Unpin>>;

/// The destinations of the output.
#[derive(Default)]
pub(super) struct Sinks {
    pub(super) stdout: Sink,
    pub(super) stderr: Sink,
    /// Where an error is reported.
    pub(super) failure: OutputFailure,
}

/// Queues output for the foreground.
#[derive(Debug)]
pub(super) struct Foreground {
    queue: mpsc::UnboundedSender<Chunk>,
    space: Arc<Semaphore>,
    /// Whether the machine was told to end.
    ending: watch::Receiver<bool>,
    /// The reader did not read in time when the machine was told to end: the rest is dropped.
    abandoned: bool,
}

#[derive(Debug)]
struct Chunk {
    output: Output,
    bytes: Bytes,
    _space: Option<OwnedSemaphorePermit>,
}

impl Foreground {
    /// Queues output; waits until the reader has made room for it.
    pub(super) async fn send(&mut self, output: Output, bytes: Bytes) {
        if self.abandoned {
            return;
        }
        let count = bytes.len().min(MAX_QUEUED_BYTES) as u32;
        let space = tokio::select! {
            biased;
            space = self.space.clone().acquire_many_owned(count) => space.ok(),
            () = reader_timeout(&mut self.ending) => {
                self.abandoned = true;
                return tracing::warn!(component = "output", "output of the container was not read, and is lost");
            }
        };
        // The task has ended only if it panicked.
        self.queue.send(Chunk { output, bytes, _space: space }).ok();
    }
}

/// Waits until the machine was told to end, and for the time that a reader has then.
pub(super) async fn reader_timeout(ending: &mut watch::Receiver<bool>) {
    // An error means that the machine has ended.
    ending.wait_for(|ending| *ending).await.ok();
    sleep(READER_TIMEOUT).await;
}

impl Sinks {
    /// Starts the task that writes. It ends when the returned queue is dropped and everything is written. By the
    /// link to the guest it signals the container when its reader is gone; `ending` tells that the machine is ending.
    pub(super) fn start(
        self,
        link: Link,
        ending: watch::Receiver<bool>,
    ) -> (Option<Foreground>, JoinHandle<Self>) {
        let is_needed = self.stdout.is_some() || self.stderr.is_some();
        let (queue, chunks) = mpsc::unbounded_channel();
        let space = Arc::new(Semaphore::new(MAX_QUEUED_BYTES));
        let foreground = is_needed.then(|| Foreground { queue, space, ending, abandoned: false });
        (foreground, tokio::spawn(self.write_all(chunks, link)))
    }

    async fn write_all(mut self, mut chunks: mpsc::UnboundedReceiver<Chunk>, link: Link) -> Self {
        while let Some(chunk) = chunks.recv().await {
            let sink = match chunk.output {
                Output::Stdout => &mut self.stdout,
                Output::Stderr => &mut self.stderr,
            };
            let Some(writer) = sink else { continue };
            if let Err(error) = write_and_flush(writer, &chunk.bytes).await {
                *sink = None;
                self.report(error, &link);
            }
        }
        self
    }

    /// A container whose reader is gone gets the signal that it would get from writing to the closed pipe itself.
    /// Other errors, such as ENOSPC, are not its own: it runs on, and the rest of its output is dropped.
    fn report(&self, error: io::Error, link: &Link) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reply is not needed; a lost link ends the machine anyway.
            drop(link.open(&Request::Signal { signal: SIGPIPE }));
            return;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }
}

async fn write_and_flush(writer: &mut (dyn AsyncWrite + Send + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}
