//! The virtio-serial port that is the host link.
//!
//! A port whose host end is closed reports a hang-up for as long as that
//! lasts, and reads as if at its end. The hang-up is not final: the host may
//! come back. So the port is watched through an epoll of its own, edge by
//! edge, and never shows its hang-ups to the runtime, which takes them for the end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::watch::watch;

/// What the host calls our port.
const NAME: &str = "mimeo";

/// The device file of the host link, once the kernel has found it.
pub(crate) fn find() -> Option<PathBuf> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|port| {
        let name = std::fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim() == NAME).then(|| PathBuf::from("/dev").join(port.file_name()))
    })
}

/// Opens the port, without blocking.
pub(crate) fn open(path: &std::path::Path) -> io::Result<Arc<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(Arc::new(rustix::fs::open(path, flags, Mode::empty())?))
}

/// One direction of the port.
#[derive(Debug)]
struct Half {
    port: Arc<OwnedFd>,
    edges: AsyncFd<OwnedFd>,
}

impl Half {
    fn new(port: Arc<OwnedFd>, interest: EventFlags) -> io::Result<Self> {
        let edges = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&edges, &port, EventData::new_u64(0), interest | EventFlags::ET)?;
        Ok(Self { port, edges: watch(edges, Interest::READABLE)? })
    }

    /// Does `act` as often as the port changes, until it has a result.
    fn poll_until<T>(
        &self,
        context: &mut Context<'_>,
        mut act: impl FnMut(&OwnedFd) -> io::Result<Option<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            if let Some(done) = act(&self.port)? {
                return Poll::Ready(Ok(done));
            }
            let mut guard = ready!(self.edges.poll_read_ready(context))?;
            if !self.edge()? {
                guard.clear_ready();
            }
        }
    }

    /// Takes an edge, if there was one.
    fn edge(&self) -> io::Result<bool> {
        let mut events = Vec::with_capacity(1);
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(self.edges.get_ref(), rustix::buffer::spare_capacity(&mut events), Some(&none))?;
        Ok(!events.is_empty())
    }
}

/// What the host says.
#[derive(Debug)]
pub(crate) struct PortReader {
    half: Half,
    /// The host has spoken: from now on an end of the port is the host's leaving.
    heard: bool,
}

impl PortReader {
    pub(crate) fn new(port: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { half: Half::new(port, EventFlags::IN)?, heard: false })
    }
}

impl AsyncRead for PortReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let heard = self.heard;
        let space = buffer.initialize_unfilled();
        let read = ready!(self.half.poll_until(context, |port| match rustix::io::read(port, &mut *space) {
            Ok(0) if !heard => Ok(None),
            Ok(read) => Ok(Some(read)),
            Err(errno) => retry(errno),
        }))?;
        buffer.advance(read);
        self.heard = true;
        Poll::Ready(Ok(()))
    }
}

/// What the host is told.
#[derive(Debug)]
pub(crate) struct PortWriter {
    half: Half,
}

impl PortWriter {
    pub(crate) fn new(port: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { half: Half::new(port, EventFlags::OUT)? })
    }
}

impl AsyncWrite for PortWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.half.poll_until(context, |port| match rustix::io::write(port, bytes) {
            Ok(written) => Ok(Some(written)),
            Err(errno) => retry(errno),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn retry<T>(errno: Errno) -> io::Result<Option<T>> {
    match errno {
        Errno::AGAIN | Errno::INTR => Ok(None),
        _ => Err(errno.into()),
    }
}
