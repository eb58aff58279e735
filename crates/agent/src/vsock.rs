//! The host link over a vsock device, where the virtual machine monitor has that and no serial port.
//!
//! The host connects, as often as it likes; a machine that is saved or copied
//! loses its connections, and keeps what listens.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::watch::watch;

/// Where the host finds us.
const PORT: u32 = 1024;
/// A vsock device's number, of the virtio specification, as sysfs writes it.
const DEVICE: &str = "0x0013";
/// What drives it.
pub(crate) const MODULE: &str = "vmw_vsock_virtio_transport";

/// Whether there is such a device.
pub(crate) fn is_there() -> bool {
    let devices = std::fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten();
    devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("device")).ok())
        .any(|number| number.trim() == DEVICE)
}

/// Waits for the host.
#[derive(Debug)]
pub(crate) struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Listens, whoever else may: the first program of a machine is the first to ask for a port.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, PORT))?;
        listen(&socket, Backlog::new(1)?)?;
        Ok(Self(watch(socket, Interest::READABLE)?))
    }

    /// The host's next connection. Others are turned away: what runs in the
    /// machine is not the host. Safe to cancel.
    pub(crate) async fn accept(&self) -> io::Result<(VsockReader, VsockWriter)> {
        loop {
            let mut ready = self.0.readable().await?;
            let accepted = ready.try_io(|listener| {
                let flags = rustix::net::SocketFlags::CLOEXEC;
                Ok(rustix::net::accept_with(listener, flags)?)
            });
            let Ok(connection) = accepted else { continue };
            let connection = connection?;
            if getpeername::<VsockAddr>(connection.as_raw_fd())?.cid() != libc::VMADDR_CID_HOST {
                continue;
            }
            let connection = Arc::new(watch(connection, Interest::READABLE | Interest::WRITABLE)?);
            return Ok((VsockReader(connection.clone()), VsockWriter(connection)));
        }
    }
}

/// What the host says.
#[derive(Debug)]
pub(crate) struct VsockReader(Arc<AsyncFd<OwnedFd>>);

/// What the host is told.
#[derive(Debug)]
pub(crate) struct VsockWriter(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for VsockReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            if let Ok(read) = ready.try_io(|socket| Ok(rustix::io::read(socket, space)?)) {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for VsockWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|socket| Ok(rustix::io::write(socket, bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
