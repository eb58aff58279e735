//! Forwards FUSE messages between the kernel and the host.
//!
//! The kernel reads and writes one message at a time, and the stream carries bytes.
//! Requests and replies begin with their length.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mimeo_agent_protocol::link::{Item, Receiver, Sender};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::owners::{Owners, Pending};
use crate::watch::read_into;

/// The stream's channel for the messages.
const CHANNEL: u8 = 0;
/// Size of the largest request: 256 pages of data, and its headers.
const MAX_REQUEST: usize = 1024 * 1024 + 4096;
/// Size of a reply's header: length, error, request id.
const OUT_HEADER: usize = 16;
/// Largest reply that is accepted from the host.
const MAX_ANSWER: usize = MAX_REQUEST;

/// Forwards messages until the kernel or the host ends. Closing the device then fails
/// all requests that still wait for a reply.
pub(super) async fn run(device: AsyncFd<OwnedFd>, sender: Arc<Sender>, receiver: Receiver, owners: Owners) {
    let pending = Pending::new(owners);
    tokio::select! {
        () = forward_requests(&device, &sender, &pending) => {}
        () = forward_answers(&device, receiver, &pending) => {}
    }
}

/// From the kernel to the host.
async fn forward_requests(device: &AsyncFd<OwnedFd>, sender: &Sender, pending: &Pending) {
    // Most requests are small: the pages beyond them are never written, and so take no memory.
    let mut buffer = Vec::with_capacity(MAX_REQUEST);
    loop {
        match read_into(device, &mut buffer).await {
            Ok(0) => return,
            Ok(_) => {}
            // The request was cancelled before it could be read.
            Err(error) if is_retryable(&error) => continue,
            Err(_) => return,
        }
        pending.rewrite_request(&mut buffer);
        if sender.data(CHANNEL, Bytes::copy_from_slice(&buffer)).await.is_err() {
            return;
        }
    }
}

/// From the host to the kernel.
async fn forward_answers(device: &AsyncFd<OwnedFd>, mut receiver: Receiver, pending: &Pending) {
    let mut bytes = BytesMut::new();
    while let Ok(Some(item)) = receiver.next().await {
        let Item::Data { channel: CHANNEL, bytes: more } = item else { continue };
        bytes.extend_from_slice(&more);
        loop {
            match first_message(&bytes) {
                Length::Partial(missing) => {
                    bytes.reserve(missing);
                    break;
                }
                Length::Malformed => return,
                Length::Complete(length) => {
                    let mut answer = bytes.split_to(length);
                    pending.rewrite_answer(&mut answer);
                    // Fails when the kernel no longer waits for the reply, or the host sent a malformed one.
                    rustix::io::write(device.get_ref(), &answer).ok();
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    /// At least that many bytes are missing.
    Partial(usize),
    Complete(usize),
    Malformed,
}

/// The length of the first message in `bytes`.
fn first_message(mut bytes: &[u8]) -> Length {
    let available = bytes.len();
    if available < OUT_HEADER {
        return Length::Partial(OUT_HEADER - available);
    }
    match bytes.get_u32_le() as usize {
        length if !(OUT_HEADER..=MAX_ANSWER).contains(&length) => Length::Malformed,
        length if length > available => Length::Partial(length - available),
        length => Length::Complete(length),
    }
}

fn is_retryable(error: &std::io::Error) -> bool {
    [Errno::NOENT, Errno::INTR, Errno::AGAIN]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_by_their_length() {
        assert_eq!(first_message(&[16, 0, 0]), Length::Partial(13));
        let mut two = vec![0; 40];
        two[0] = 24;
        assert_eq!(first_message(&two), Length::Complete(24));
        two[0] = 41;
        assert_eq!(first_message(&two), Length::Partial(1));
        two[0] = 15;
        assert_eq!(first_message(&two), Length::Malformed);
        two[3] = 1;
        assert_eq!(first_message(&two), Length::Malformed);
    }
}
