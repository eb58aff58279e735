//! A tar stream between threads and tasks: a short queue that holds up
//! whoever is faster.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::CliError;

/// Chunks on the way.
const QUEUE: usize = 8;
/// Bytes of a chunk, at most.
const CHUNK: usize = 64 * 1024;

/// A tar stream that somebody makes.
pub(super) struct Tar {
    pub(super) chunks: mpsc::Receiver<Bytes>,
    /// Who makes it, and how that went.
    pub(super) maker: JoinHandle<Result<(), CliError>>,
    rest: Bytes,
}

impl Tar {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, maker: JoinHandle<Result<(), CliError>>) -> Self {
        Self { chunks, maker, rest: Bytes::new() }
    }
}

/// A queue for a tar stream.
pub(super) fn queue() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(QUEUE)
}

/// Makes a tar stream on a thread of its own.
pub(super) fn spawn(make: impl FnOnce(Writer) -> Result<(), CliError> + Send + 'static) -> Tar {
    let (sender, chunks) = queue();
    let writer = Writer { sender, held: Vec::with_capacity(CHUNK) };
    Tar::new(chunks, tokio::task::spawn_blocking(move || make(writer)))
}

/// The end that a thread reads from.
impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// The end that a thread writes to. What is held goes with a flush.
#[derive(Debug)]
pub(super) struct Writer {
    sender: mpsc::Sender<Bytes>,
    held: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.held, Vec::with_capacity(CHUNK));
        // Who reads has failed, and says why.
        self.sender.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
