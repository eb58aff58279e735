//! The guest link: a connection to the guest over virtio-vsock that the host
//! begins.
//!
//! Firecracker listens on a socket for the guest's sake. Who connects names the
//! guest's port, `CONNECT 1024`, and is answered `OK` and the host's own port
//! once the guest has accepted; a guest that does not listen ends the
//! connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{GUEST_PORT, names, socket};

/// From one try to the next: a guest that boots does not listen for a while,
/// and what is waited here is lost once it does.
const RETRY_INTERVAL: Duration = Duration::from_millis(3);
/// How long Firecracker may take to answer. It gives a guest two seconds to accept.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: `OK`, a space, a port, the line's end.
const MAX_ANSWER: usize = 32;

/// A link to the guest, up or still connecting. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Link {
    task: JoinHandle<()>,
    /// Counts the connections that were given up for a new one.
    reconnects: watch::Sender<u64>,
}

impl Link {
    /// Gives one end at once; what is written to it arrives when the guest has
    /// accepted. It ends when the guest's end does.
    pub(super) fn open(directory: Arc<OwnedFd>) -> io::Result<(UnixStream, Self)> {
        let (ours, host) = UnixStream::pair()?;
        let (reconnects, requests) = watch::channel(0);
        Ok((ours, Self { task: tokio::spawn(serve(directory, host, requests)), reconnects }))
    }

    /// Closes the connection and makes another, which carries the same link on.
    ///
    /// For a machine that is being saved: Firecracker tells the guest that its
    /// connections are gone, but leaves the host's ends open, and what is written
    /// to those is lost. The guest takes the next connection for the same link;
    /// nothing may be on its way in either direction.
    pub(super) fn reconnect(&self) {
        self.reconnects.send_modify(|count| *count += 1);
    }
}

/// Joins `host` to the guest until either ends.
async fn serve(directory: Arc<OwnedFd>, mut host: UnixStream, mut reconnects: watch::Receiver<u64>) {
    let mut was_connected = false;
    loop {
        let Some(mut guest) = connect_to_guest(&directory, was_connected).await else {
            tracing::debug!("the guest link ended with its machine");
            return;
        };
        was_connected = true;
        // A new connection is what was asked for until now.
        reconnects.mark_unchanged();
        tokio::select! {
            // A connection that is asked for is made before anything more is lost on the old one.
            biased;
            changed = reconnects.changed() => if changed.is_err() { return },
            copied = copy_both_ways(&mut host, &mut guest) => {
                // Either way, who has the other end sees the end.
                if let Err(error) = copied {
                    tracing::debug!(%error, "the guest link broke");
                }
                return;
            }
        }
    }
}

/// Until either side ends.
async fn copy_both_ways(host: &mut UnixStream, guest: &mut UnixStream) -> io::Result<()> {
    let (mut from_host, mut to_host) = host.split();
    let (mut from_guest, mut to_guest) = guest.split();
    tokio::select! {
        done = tokio::io::copy(&mut from_host, &mut to_guest) => done.map(drop),
        done = tokio::io::copy(&mut from_guest, &mut to_host) => done.map(drop),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tries until the guest has accepted. Nothing comes of it where a Firecracker that was there (`was_connected`) is gone.
async fn connect_to_guest(directory: &OwnedFd, was_connected: bool) -> Option<UnixStream> {
    loop {
        match timeout(ANSWER_TIMEOUT, connect_once(directory)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if was_connected && is_gone(&error) => return None,
            Ok(Err(error)) => tracing::trace!(%error, "the guest does not listen yet"),
            Err(_) => tracing::debug!("Firecracker does not answer on the guest link"),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Nobody listens on Firecracker's socket any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

async fn connect_once(directory: &OwnedFd) -> io::Result<UnixStream> {
    let mut stream = socket::connect(directory, names::LINK).await?;
    stream.write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes()).await?;
    let answer = read_line(&mut stream).await?;
    match answer.strip_prefix("OK ").map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{answer:?} is no answer"))),
    }
}

/// Byte by byte: what follows the line is the guest's.
async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_ANSWER {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"))
}
