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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::{GUEST_PORT, names, socket};

/// From one try to the next: a guest that boots does not listen for a while,
/// and what is waited here is lost once it does.
const AGAIN: Duration = Duration::from_millis(3);
/// Bytes of an answer: `OK`, a space, a port, the line's end.
const MAX_ANSWER: usize = 32;

/// A link that stands or is to stand. It ends with this.
#[derive(Debug)]
pub(super) struct Link {
    task: JoinHandle<()>,
    /// The connection's next end is not the link's.
    breaks: Arc<AtomicBool>,
}

impl Link {
    /// Gives one end at once; what is written to it arrives when the guest has
    /// accepted. It ends when the guest's end does.
    pub(super) fn open(directory: Arc<OwnedFd>) -> io::Result<(UnixStream, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        let breaks = Arc::new(AtomicBool::new(false));
        let is_broken = breaks.clone();
        let task = tokio::spawn(async move {
            let mut near = theirs;
            loop {
                let mut far = reach(&directory).await;
                // However it ends, who has the other end sees the end.
                if let Err(error) = carry(&mut near, &mut far).await {
                    tracing::debug!(%error, "the guest link broke");
                }
                if !is_broken.swap(false, Ordering::Relaxed) {
                    return;
                }
            }
        });
        Ok((ours, Self { task, breaks }))
    }

    /// Goes on over another connection when this one ends. For a machine that
    /// is saved: its guest is told that its connections are gone, stands still
    /// meanwhile, and takes the next one for the same; nothing may be on its way
    /// in either direction.
    pub(super) fn outlive_connection(&self) {
        self.breaks.store(true, Ordering::Relaxed);
    }
}

/// Until either side ends; what has ended is only the connection.
async fn carry(near: &mut UnixStream, far: &mut UnixStream) -> io::Result<()> {
    let (mut from_near, mut to_near) = near.split();
    let (mut from_far, mut to_far) = far.split();
    tokio::select! {
        done = tokio::io::copy(&mut from_near, &mut to_far) => done.map(drop),
        done = tokio::io::copy(&mut from_far, &mut to_near) => done.map(drop),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reach(directory: &OwnedFd) -> UnixStream {
    loop {
        match try_once(directory).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(%error, "the guest does not listen yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn try_once(directory: &OwnedFd) -> io::Result<UnixStream> {
    let mut stream = socket::connect(directory, names::LINK).await?;
    stream.write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes()).await?;
    let answer = line(&mut stream).await?;
    match answer.strip_prefix("OK ").map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{answer:?} is no answer"))),
    }
}

/// Byte by byte: what follows the line is the guest's.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_ANSWER {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"))
}
