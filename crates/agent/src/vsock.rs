//! The host link over a vsock device, for VMMs that have no virtio-serial port.
//!
//! The host may connect any number of times. Saving or cloning a machine closes its
//! connections; the listening socket stays.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::sync::watch;

use crate::virtio;
use crate::watch::watch as register;

/// The port that the agent listens on.
const PORT: u32 = 1024;
/// Virtio device id of a vsock device, as sysfs writes it.
const DEVICE: &str = "0x0013";
/// The vsock device's driver.
pub(crate) const MODULE: &str = "vmw_vsock_virtio_transport";

/// Whether the machine has a vsock device.
pub(crate) fn has_device() -> bool {
    virtio::has_device(DEVICE)
}

/// The listening socket.
#[derive(Debug)]
pub(crate) struct Listener(AsyncFd<OwnedFd>);

type Connection = Arc<AsyncFd<OwnedFd>>;

impl Listener {
    /// Listens on [`PORT`]. The port is free, because the agent is the first program of the machine.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, PORT))?;
        listen(&socket, Backlog::new(1)?)?;
        Ok(Self(register(socket, Interest::READABLE)?))
    }

    /// The host's next connection. Connections from within the machine are closed.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let accepted = ready.try_io(|listener| {
                let flags = rustix::net::SocketFlags::CLOEXEC;
                Ok(rustix::net::accept_with(listener, flags)?)
            });
            let Ok(connection) = accepted else { continue };
            let connection = connection?;
            if getpeername::<VsockAddr>(connection.as_raw_fd())?.cid() == libc::VMADDR_CID_HOST {
                let interest = Interest::READABLE | Interest::WRITABLE;
                return Poll::Ready(Ok(Arc::new(register(connection, interest)?)));
            }
        }
    }
}

/// Waits for the host, and returns both directions of its connection.
///
/// Saving a machine closes its connections while its workload is frozen. The
/// session continues afterwards: the host connects again, and both directions
/// resume where they were. In a clone the host begins a new session instead.
pub(crate) async fn accept(
    listener: &Arc<Listener>,
    frozen: Arc<watch::Sender<bool>>,
) -> io::Result<(VsockReader, VsockWriter)> {
    let connection = poll_fn(|context| listener.poll_accept(context)).await?;
    let error_event = wait_for_error(&connection);
    let link = Arc::new(ReconnectingLink {
        listener: listener.clone(),
        frozen,
        connection: Mutex::new(connection),
        writer: Mutex::default(),
    });
    Ok((VsockReader { link: link.clone(), error_event: Some(error_event) }, VsockWriter(link)))
}

/// A connection to the host that can be replaced by a new one.
#[derive(Debug)]
struct ReconnectingLink {
    listener: Arc<Listener>,
    frozen: Arc<watch::Sender<bool>>,
    connection: Mutex<Connection>,
    /// The task that waits to write until there is a connection again.
    writer: Mutex<Option<Waker>>,
}

impl ReconnectingLink {
    fn connection(&self) -> Connection {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn may_reconnect(&self) -> bool {
        *self.frozen.borrow()
    }

    fn replace_connection(&self, connection: Connection) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
        if let Some(writer) = self.writer().take() {
            writer.wake();
        }
    }

    fn writer(&self) -> MutexGuard<'_, Option<Waker>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves once a connection has failed.
type ErrorEvent = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Resolves when the socket reports an error. Saving a machine resets the vsock device, which the socket
/// reports only as an error. It is neither end of file nor readable, so a waiting reader is not woken.
fn wait_for_error(connection: &Connection) -> ErrorEvent {
    let connection = connection.clone();
    Box::pin(async move {
        // When the socket can no longer be watched, the connection has failed too.
        connection.ready(Interest::ERROR).await.map(drop).unwrap_or_default();
    })
}

/// Reads from the host.
pub(crate) struct VsockReader {
    link: Arc<ReconnectingLink>,
    /// None after the connection has failed.
    error_event: Option<ErrorEvent>,
}

impl VsockReader {
    /// Waits until the connection is readable or has failed, and reads from it.
    fn poll_connection(
        &mut self,
        context: &mut Context<'_>,
        connection: &Connection,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match connection.poll_read_ready(context)? {
                Poll::Ready(mut ready) => {
                    let read = ready.try_io(|socket| Ok(rustix::io::read(socket, &mut *space)?));
                    if let Ok(read) = read {
                        return Poll::Ready(read);
                    }
                }
                Poll::Pending => {
                    if let Some(error_event) = &mut self.error_event {
                        ready!(error_event.as_mut().poll(context));
                        self.error_event = None;
                    }
                    match rustix::io::read(connection.get_ref(), &mut *space) {
                        // The error is not of the connection, or is over: wait until it is readable.
                        Err(rustix::io::Errno::AGAIN) => return Poll::Pending,
                        read => return Poll::Ready(read.map_err(Into::into)),
                    }
                }
            }
        }
    }
}

/// Writes to the host.
#[derive(Debug)]
pub(crate) struct VsockWriter(Arc<ReconnectingLink>);

impl AsyncRead for VsockReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let connection = self.link.connection();
            match ready!(self.poll_connection(context, &connection, buffer.initialize_unfilled())) {
                Ok(0) | Err(_) if self.link.may_reconnect() => {
                    let next = ready!(self.link.listener.poll_accept(context))?;
                    self.error_event = Some(wait_for_error(&next));
                    self.link.replace_connection(next);
                }
                read => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for VsockWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let connection = self.0.connection();
            let mut ready = ready!(connection.poll_write_ready(context))?;
            let Ok(written) = ready.try_io(|socket| Ok(rustix::io::write(socket, bytes)?)) else { continue };
            if written.is_err() && self.0.may_reconnect() {
                *self.0.writer() = Some(context.waker().clone());
                // The reader sees the failure too, and may have replaced the connection already.
                if Arc::ptr_eq(&connection, &self.0.connection()) {
                    return Poll::Pending;
                }
                continue;
            }
            return Poll::Ready(written);
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
