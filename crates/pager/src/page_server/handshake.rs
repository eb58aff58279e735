//! The handshake of a clone: the list of its memory regions, and its userfaultfd.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::error::HandshakeError;
use super::regions::{Layout, MAX_REGIONS, RegionMapping};
use crate::userfault::{self, UffdError};

/// Bytes of a message: a region takes about 130, and as much again is reserved for fields of later versions.
const MAX_BYTES: usize = MAX_REGIONS * 256;
/// Parts that a message may come in. It normally comes in one, or in as many as the socket buffer splits it
/// into. The message is parsed after each part, so a message of single bytes would cost a thousand times its
/// length.
const MAX_PARTS: usize = 256;
/// Descriptors received per part: one is valid, and a second is detected as an error.
const DESCRIPTORS_PER_PART: usize = 2;

/// A valid handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) descriptor: OwnedFd,
    pub(super) layout: Layout,
}

/// What has been received so far. When it is dropped with a descriptor in it, the client must already be
/// dead, since its memory is not served any more.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Message {
    /// Receives a complete handshake, for a clone of a memory of `memory` bytes.
    pub(super) async fn receive(
        &mut self,
        stream: &UnixStream,
        memory: u64,
        timeout: Duration,
    ) -> Result<Handshake, HandshakeError> {
        let received = tokio::time::timeout(timeout, self.receive_regions(stream)).await;
        let regions =
            received.unwrap_or(Err(HandshakeError::Timeout { bytes: self.bytes.len(), timeout }))?;
        let descriptor = self.descriptors.first().ok_or(HandshakeError::NoDescriptor)?;
        userfault::validate(descriptor).map_err(|error| match error {
            UffdError::Other { name } => HandshakeError::NotUserfaultfd { name },
            UffdError::Features { features } => HandshakeError::Features { features },
            UffdError::Unreadable(error) => HandshakeError::Descriptor(error),
        })?;
        let layout = Layout::validate(&regions, memory)?;
        let descriptor = self.descriptors.pop().ok_or(HandshakeError::NoDescriptor)?;
        Ok(Handshake { descriptor, layout })
    }

    async fn receive_regions(&mut self, stream: &UnixStream) -> Result<Vec<RegionMapping>, HandshakeError> {
        for _ in 0..MAX_PARTS {
            let part = stream.async_io(Interest::READABLE, || self.receive_part(stream));
            let (length, lost) = part.await.map_err(HandshakeError::Receive)?;
            if self.descriptors.len() > 1 {
                return Err(HandshakeError::TooManyDescriptors);
            }
            if lost {
                return Err(HandshakeError::LostDescriptor);
            }
            if length == 0 {
                return Err(HandshakeError::Truncated { bytes: self.bytes.len() });
            }
            if let Some(regions) = self.parse()? {
                return Ok(regions);
            }
        }
        Err(HandshakeError::TooManyParts { max: MAX_PARTS })
    }

    /// Receives what is available; returns the number of bytes, and whether a descriptor was lost.
    fn receive_part(&mut self, stream: &UnixStream) -> io::Result<(usize, bool)> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PART))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
        for sent in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = sent {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&bytes[..message.bytes]);
        Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))
    }

    /// The regions, once the list is complete. Only the end of the list marks the end of the message: the
    /// connection stays open.
    fn parse(&self) -> Result<Option<Vec<RegionMapping>>, HandshakeError> {
        if self.bytes.len() > MAX_BYTES {
            return Err(HandshakeError::TooLong { max: MAX_BYTES });
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(regions) => Ok(Some(regions)),
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => Err(HandshakeError::Malformed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_message_of_too_many_parts_is_refused() {
        let (mut peer, stream) = UnixStream::pair().expect("a pair");
        let send = async {
            // Some bytes are received together.
            while peer.write_all(b" ").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let mut message = Message::default();
        let outcome = message.receive(&stream, 0, Duration::from_secs(60));
        let outcome = tokio::select! { outcome = outcome => outcome, () = send => panic!("the message is never refused") };
        assert!(matches!(outcome, Err(HandshakeError::TooManyParts { .. })), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_message_of_too_many_bytes_is_refused() {
        let (mut peer, stream) = UnixStream::pair().expect("a pair");
        let send = async { peer.write_all(&vec![b' '; 2 * MAX_BYTES]).await };
        let mut message = Message::default();
        let outcome = message.receive(&stream, 0, Duration::from_secs(60));
        let outcome =
            tokio::select! { outcome = outcome => outcome, received = send => panic!("{received:?}") };
        assert!(matches!(outcome, Err(HandshakeError::TooLong { .. })), "{outcome:?}");
    }
}
