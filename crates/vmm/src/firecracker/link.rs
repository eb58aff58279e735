//! The guest link: a connection over virtio-vsock that the host opens to the guest.
//!
//! Firecracker listens on a Unix socket. A client sends `CONNECT 1024`, with the guest's port, and gets `OK`
//! and a host port once the guest has accepted. If nothing listens in the guest, Firecracker closes the
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

/// Time between attempts: a booting guest does not listen for a while, and waiting longer than that delays
/// its start.
const RETRY_INTERVAL: Duration = Duration::from_millis(3);
/// Timeout for Firecracker's answer. It gives a guest two seconds to accept.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: `OK`, a space, a port, a newline.
const MAX_ANSWER: usize = 32;

/// A link to the guest, connected or still connecting. Dropping this closes it.
#[derive(Debug)]
pub(super) struct Link {
    task: JoinHandle<()>,
    /// Counts the requests to reconnect.
    reconnects: watch::Sender<u64>,
}

impl Link {
    /// Gives one end at once. Data written to it is delivered when the guest has accepted. It is closed when
    /// the guest's end is.
    pub(super) fn open(directory: Arc<OwnedFd>) -> io::Result<(UnixStream, Self)> {
        let (ours, host) = UnixStream::pair()?;
        let (reconnects, requests) = watch::channel(0);
        Ok((ours, Self { task: tokio::spawn(serve(directory, host, requests)), reconnects }))
    }

    /// Closes the connection and opens another one, which continues the same link.
    ///
    /// For a machine that is saved: Firecracker closes the guest's connections, but leaves the host's ends
    /// open, and data written to those is lost. The guest accepts the next connection for the same link. No
    /// data may be in flight in either direction.
    pub(super) fn reconnect(&self) {
        self.reconnects.send_modify(|count| *count += 1);
    }
}

/// Connects `host` to the guest until either end is closed.
async fn serve(directory: Arc<OwnedFd>, mut host: UnixStream, mut reconnects: watch::Receiver<u64>) {
    let mut was_connected = false;
    loop {
        let Some(mut guest) = connect_to_guest(&directory, was_connected).await else {
            tracing::debug!("the guest link ended: firecracker has exited");
            return;
        };
        was_connected = true;
        // This connection satisfies all requests so far.
        reconnects.mark_unchanged();
        tokio::select! {
            // Reconnect before more data is lost on the old connection.
            biased;
            changed = reconnects.changed() => if changed.is_err() { return },
            copied = copy_both_ways(&mut host, &mut guest) => {
                // Returning closes `host`, so that its peer sees the end.
                if let Err(error) = copied {
                    tracing::debug!(%error, "the guest link broke");
                }
                return;
            }
        }
    }
}

/// Copies until either end is closed.
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

/// Retries until the guest has accepted. None if there was a connection before (`was_connected`) and
/// Firecracker has exited.
async fn connect_to_guest(directory: &OwnedFd, was_connected: bool) -> Option<UnixStream> {
    loop {
        match timeout(ANSWER_TIMEOUT, connect_once(directory)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if was_connected && is_gone(&error) => return None,
            Ok(Err(error)) => tracing::trace!(%error, "the guest does not listen yet"),
            Err(_) => tracing::debug!("firecracker does not answer on the guest link"),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Whether nothing listens on Firecracker's socket any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

async fn connect_once(directory: &OwnedFd) -> io::Result<UnixStream> {
    let mut stream = socket::connect(directory, names::LINK).await?;
    stream.write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes()).await?;
    let answer = read_line(&mut stream).await?;
    match answer.strip_prefix("OK ").map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("invalid answer {answer:?}"))),
    }
}

/// Reads byte by byte: the bytes after the newline are the guest's.
async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_ANSWER {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"))
}
