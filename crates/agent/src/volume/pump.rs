//! Moves FUSE messages between the kernel and the host.
//!
//! The kernel gives and takes whole messages; the stream is bytes. Both kinds
//! of message begin with their own length.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mimeo_agent_protocol::link::{Item, Receiver, Sender};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::owners::{Owners, Pending};
use crate::watch::read;

/// The channel that the messages travel on.
const CHANNEL: u8 = 0;
/// Room for the largest request: 256 pages of data, and its headers.
const MAX_REQUEST: usize = 1024 * 1024 + 4096;
/// The header of an answer: length, error, request.
const OUT_HEADER: usize = 16;
/// Largest answer that is taken from the host.
const MAX_ANSWER: usize = MAX_REQUEST;

/// Moves messages until the kernel or the host has no more. With the device
/// everything ends that still waits for an answer.
pub(super) async fn run(device: AsyncFd<OwnedFd>, sender: Arc<Sender>, receiver: Receiver, owners: Owners) {
    let pending = Pending::new(owners);
    tokio::select! {
        () = forward_requests(&device, &sender, &pending) => {}
        () = forward_answers(&device, receiver, &pending) => {}
    }
}

/// From the kernel to the host.
async fn forward_requests(device: &AsyncFd<OwnedFd>, sender: &Sender, pending: &Pending) {
    // Memory that the kernel has not written to yet costs nothing.
    let mut buffer = vec![0; MAX_REQUEST];
    loop {
        let length = match read(device, &mut buffer).await {
            Ok(0) => return,
            Ok(length) => length,
            // A request that was taken back before it could be read.
            Err(error) if is_retryable(&error) => continue,
            Err(_) => return,
        };
        let request = &mut buffer[..length];
        pending.rewrite_request(request);
        if sender.data(CHANNEL, Bytes::copy_from_slice(request)).await.is_err() {
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
                Length::Partial => break,
                Length::Malformed => return,
                Length::Complete(length) => {
                    let mut answer = bytes.split_to(length);
                    pending.rewrite_answer(&mut answer);
                    // What the kernel no longer waits for, or cannot read, it refuses; so be it.
                    rustix::io::write(device.get_ref(), &answer).ok();
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    Partial,
    Complete(usize),
    Malformed,
}

/// How far the first message in `bytes` reaches.
fn first_message(mut bytes: &[u8]) -> Length {
    let available = bytes.len();
    if available < OUT_HEADER {
        return Length::Partial;
    }
    match bytes.get_u32_le() as usize {
        length if !(OUT_HEADER..=MAX_ANSWER).contains(&length) => Length::Malformed,
        length if length > available => Length::Partial,
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
        assert_eq!(first_message(&[16, 0, 0]), Length::Partial);
        let mut two = vec![0; 40];
        two[0] = 24;
        assert_eq!(first_message(&two), Length::Complete(24));
        two[0] = 41;
        assert_eq!(first_message(&two), Length::Partial);
        two[0] = 15;
        assert_eq!(first_message(&two), Length::Malformed);
        two[3] = 1;
        assert_eq!(first_message(&two), Length::Malformed);
    }
}
