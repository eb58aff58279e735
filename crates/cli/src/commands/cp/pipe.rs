//! A tar stream between threads and tasks: a bounded queue with back pressure.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::CliError;

/// Chunks in the queue, at most.
const QUEUE_CHUNKS: usize = 8;
/// Bytes in a chunk, at most.
const CHUNK_BYTES: usize = 64 * 1024;

/// The reading end of a tar stream.
pub(super) struct Tar {
    pub(super) chunks: mpsc::Receiver<Bytes>,
    /// The task that produces the stream, and its result.
    pub(super) producer: JoinHandle<Result<(), CliError>>,
    unread: Bytes,
    /// Whether the paths leave out the name of the directory that was packed.
    pub(super) omits_name: bool,
}

impl Tar {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, producer: JoinHandle<Result<(), CliError>>) -> Self {
        Self { chunks, producer, unread: Bytes::new(), omits_name: false }
    }
}

/// Creates the queue of a tar stream.
pub(super) fn queue() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(QUEUE_CHUNKS)
}

/// Produces a tar stream on a blocking thread.
pub(super) fn spawn(produce: impl FnOnce(Writer) -> Result<(), CliError> + Send + 'static) -> Tar {
    let (sender, chunks) = queue();
    let writer = Writer { sender, buffer: Vec::with_capacity(CHUNK_BYTES) };
    Tar::new(chunks, tokio::task::spawn_blocking(move || produce(writer)))
}

/// Reads from a blocking thread.
impl Read for Tar {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.unread = chunk,
                None => return Ok(0),
            }
        }
        let count = target.len().min(self.unread.len());
        target[..count].copy_from_slice(&self.unread.split_to(count));
        Ok(count)
    }
}

/// The writing end, for a blocking thread. Buffered until a flush.
#[derive(Debug)]
pub(super) struct Writer {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        // The reader has failed and reports why.
        self.sender.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
