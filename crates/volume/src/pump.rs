//! Moves messages between a guest's stream and the threads that handle them.
//!
//! ```text
//! stream ──▶ queue ──▶ workers (threads: files may be slow) ──▶ queue ──▶ stream
//! ```
//! Both queues are short. If a guest does not read its replies, no more of its
//! requests are accepted until it does.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::Reply;
use tokio::sync::{mpsc, oneshot};

use super::limits::{MAX_REQUEST, QUEUE, WORKERS};
use super::releases::ReleaseGuard;
use super::server::Server;
use super::wire::REQUEST_HEADER;

/// The channel of the stream that carries the messages.
const CHANNEL: u8 = 0;

type Requests = Arc<Mutex<mpsc::Receiver<Bytes>>>;

/// Starts the worker threads, and moves messages until the stream ends or the
/// future is dropped; either ends the threads. The agent's own reply to the
/// mount request is sent to `mounted`.
pub(super) fn run(
    server: &Arc<Server>,
    stream: Stream,
    mounted: oneshot::Sender<Result<Reply, LinkError>>,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let (reply_sender, replies) = mpsc::channel(QUEUE);
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..WORKERS {
        let (server, requests, reply_sender) = (server.clone(), requests.clone(), reply_sender.clone());
        std::thread::Builder::new()
            .name("volume".into())
            .spawn(move || serve_requests(&server, &requests, &reply_sender))?;
    }
    let locks = LocksGuard(server.clone());
    let server = server.clone();
    std::thread::Builder::new()
        .name("volume-locks".into())
        .spawn(move || serve_waiting_locks(&server, &reply_sender))?;
    let Stream { sender, receiver } = stream;
    Ok(async move {
        let _locks = locks;
        tokio::select! {
            () = receive_requests(receiver, queue, mounted) => {}
            () = send_replies(sender, replies) => {}
        }
    })
}

/// Ends the thread of [`serve_waiting_locks`].
struct LocksGuard(Arc<Server>);

impl Drop for LocksGuard {
    fn drop(&mut self) {
        self.0.locks.close();
    }
}

/// Replies to requests that waited for a lock.
fn serve_waiting_locks(server: &Server, reply_sender: &mpsc::Sender<Vec<u8>>) {
    while let Some(reply) = server.next_lock_reply() {
        if reply_sender.blocking_send(reply).is_err() {
            return;
        }
    }
}

fn serve_requests(server: &Server, requests: &Requests, reply_sender: &mpsc::Sender<Vec<u8>>) {
    while let Some((message, release)) = next_request(server, requests) {
        let reply = server.handle(&message);
        drop(release);
        if let Some(reply) = reply
            && reply_sender.blocking_send(reply).is_err()
        {
            return;
        }
    }
}

/// Receives the next message for one of the workers; the others wait for the lock.
fn next_request<'a>(server: &'a Server, requests: &Requests) -> Option<(Bytes, Option<ReleaseGuard<'a>>)> {
    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    let message = requests.blocking_recv()?;
    let release = server.record_release(&message);
    Some((message, release))
}

async fn receive_requests(
    mut receiver: Receiver,
    queue: mpsc::Sender<Bytes>,
    mounted: oneshot::Sender<Result<Reply, LinkError>>,
) {
    let (mut bytes, mut mounted) = (BytesMut::new(), Some(mounted));
    loop {
        let bytes_received = match receiver.next().await {
            Ok(Some(Item::Data { channel: CHANNEL, bytes })) => bytes,
            Ok(Some(Item::Data { .. })) => continue,
            Ok(Some(Item::Message(json))) => {
                report_mounted(&mut mounted, read_reply(&json));
                continue;
            }
            Ok(None) => return,
            Err(error) => return report_mounted(&mut mounted, Err(error)),
        };
        bytes.extend_from_slice(&bytes_received);
        if queue_complete(&mut bytes, &queue).await.is_none() {
            return;
        }
    }
}

/// Queues every complete message; `None` means that the volume must end.
async fn queue_complete(bytes: &mut BytesMut, queue: &mpsc::Sender<Bytes>) -> Option<()> {
    loop {
        match split_message(bytes) {
            Ok(None) => return Some(()),
            Ok(Some(message)) => queue.send(message).await.ok()?,
            Err(length) => {
                tracing::warn!(
                    length,
                    "FUSE message with an invalid length from the guest, stopping its volume"
                );
                return None;
            }
        }
    }
}

/// Splits off the first message, if it is complete. An impossible length is an
/// error: the start of the next message is then unknown.
fn split_message(bytes: &mut BytesMut) -> Result<Option<Bytes>, usize> {
    if bytes.len() < REQUEST_HEADER {
        return Ok(None);
    }
    let length = (&bytes[..]).get_u32_ne() as usize;
    if !(REQUEST_HEADER..=MAX_REQUEST).contains(&length) {
        return Err(length);
    }
    if bytes.len() < length {
        bytes.reserve(length - bytes.len());
        return Ok(None);
    }
    Ok(Some(bytes.split_to(length).freeze()))
}

async fn send_replies(sender: Sender, mut replies: mpsc::Receiver<Vec<u8>>) {
    while let Some(reply) = replies.recv().await {
        if sender.data(CHANNEL, reply.into()).await.is_err() {
            return;
        }
    }
}

fn read_reply(json: &[u8]) -> Result<Reply, LinkError> {
    serde_json::from_slice(json).map_err(|_| LinkError::Violation("sent a message that cannot be read"))
}

fn report_mounted(
    mounted: &mut Option<oneshot::Sender<Result<Reply, LinkError>>>,
    reply: Result<Reply, LinkError>,
) {
    if let Some(mounted) = mounted.take() {
        // The receiver is gone if the start of the machine was abandoned.
        mounted.send(reply).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_messages_are_split_off() {
        let mut bytes = BytesMut::from(&[0; 47][..]);
        bytes[0] = 44;
        assert_eq!(split_message(&mut bytes).expect("valid").map(|message| message.len()), Some(44));
        assert_eq!(split_message(&mut bytes), Ok(None));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for length in [0, 39, MAX_REQUEST as u32 + 1, u32::MAX] {
            let mut bytes = BytesMut::from(&[0; 40][..]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(split_message(&mut bytes), Err(length as usize));
        }
    }
}
