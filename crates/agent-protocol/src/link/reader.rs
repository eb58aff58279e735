//! Reads frames, and finds the preamble of a session in arbitrary bytes.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::LinkError;
use crate::frame::{Frame, HEADER, Header, HeaderError, PREAMBLE};

/// Bytes to read from the channel at once.
const CHUNK: usize = 64 * 1024;

/// The reading half of a channel. It outlives sessions: the bytes after the end
/// of one session are the beginning of the next.
#[derive(Debug)]
pub struct FrameReader<R> {
    channel: R,
    buffer: BytesMut,
    /// A preamble ended the previous session: the next hello follows without another.
    preamble_seen: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `channel`.
    pub fn new(channel: R) -> Self {
        Self { channel, buffer: BytesMut::new(), preamble_seen: false }
    }

    /// Reads the next frame. Cancel-safe: the bytes that were read stay in the buffer.
    pub(super) async fn frame(&mut self) -> Result<Frame, LinkError> {
        self.fill(HEADER).await?;
        let mut header = [0; HEADER];
        header.copy_from_slice(&self.buffer[..HEADER]);
        let header = Header::parse(&header).map_err(|error| self.link_error(error))?;
        self.fill(HEADER + header.length as usize).await?;
        let mut frame = self.buffer.split_to(HEADER + header.length as usize);
        let payload: Bytes = frame.split_off(HEADER).freeze();
        let Header { session, stream, kind, channel, .. } = header;
        Ok(Frame { session, stream, kind, channel, payload })
    }

    /// Skips leftovers of an older session, up to and including the next preamble.
    pub(super) async fn preamble(&mut self) -> Result<(), LinkError> {
        if std::mem::take(&mut self.preamble_seen) {
            return Ok(());
        }
        loop {
            self.fill(HEADER).await?;
            match self.buffer.windows(HEADER).position(|window| window == PREAMBLE) {
                Some(at) => {
                    drop(self.buffer.split_to(at + HEADER));
                    return Ok(());
                }
                None => drop(self.buffer.split_to(self.buffer.len() - (HEADER - 1))),
            }
        }
    }

    fn link_error(&mut self, error: HeaderError) -> LinkError {
        if error != HeaderError::Preamble {
            return error.into();
        }
        drop(self.buffer.split_to(HEADER));
        self.preamble_seen = true;
        LinkError::Restarted
    }

    async fn fill(&mut self, length: usize) -> Result<(), LinkError> {
        while self.buffer.len() < length {
            self.buffer.reserve(CHUNK.max(length - self.buffer.len()));
            if self.channel.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
        Ok(())
    }
}
