//! The socket that clients connect to.

use std::io;
use std::os::unix::net;
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use tokio::net::{UnixListener, UnixStream};

/// Pause before the next `accept` after one has failed.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The listening socket. Closing it returns the pending connections: a VMM whose connection nobody reads
/// would wait for ever.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    is_open: bool,
}

impl Listener {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, is_open: true }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Waits for the next client.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                // The client is gone, or too many files are open (EMFILE), which passes.
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_PAUSE).await,
            }
        }
    }

    /// Refuses new connections, and returns those that are pending.
    pub(super) fn close(&mut self) -> Vec<UnixStream> {
        self.is_open = false;
        // It fails only for a socket that does not listen any more.
        shutdown(&self.listener, Shutdown::Read).ok();
        std::iter::from_fn(|| self.try_accept().ok()).collect()
    }

    fn try_accept(&self) -> io::Result<UnixStream> {
        let socket = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        UnixStream::from_std(net::UnixStream::from(socket))
    }
}
