//! Connects a blocking thread to an async task.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use mimeo_agent_protocol::frame::MAX_DATA;
use mimeo_agent_protocol::link::LinkError;
use tokio::sync::mpsc;

/// Length of the queue in chunks: enough that the two sides do not wait for each other at every chunk.
const QUEUE: usize = 4;

type Received = Result<Bytes, LinkError>;
/// The task's end for incoming data. Dropping it ends the archive.
pub(crate) type ChunkSender = mpsc::Sender<Received>;

/// The thread's end for outgoing data. It must be flushed at the end.
#[derive(Debug)]
pub(crate) struct Writer {
    gathered: Vec<u8>,
    chunks: mpsc::Sender<Bytes>,
}

pub(crate) fn writer() -> (Writer, mpsc::Receiver<Bytes>) {
    let (chunks, receiver) = mpsc::channel(QUEUE);
    (Writer { gathered: Vec::with_capacity(MAX_DATA), chunks }, receiver)
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(MAX_DATA - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..length]);
        if self.gathered.len() == MAX_DATA {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.gathered, Vec::with_capacity(MAX_DATA));
        self.chunks.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The thread's end for incoming data.
#[derive(Debug)]
pub(crate) struct Reader {
    chunks: mpsc::Receiver<Received>,
    chunk: Bytes,
}

pub(crate) fn reader() -> (Reader, ChunkSender) {
    let (sender, chunks) = mpsc::channel(QUEUE);
    (Reader { chunks, chunk: Bytes::new() }, sender)
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
