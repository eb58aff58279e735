//! The socket that clones connect to.

use std::io;
use std::os::unix::net;
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use tokio::net::{UnixListener, UnixStream};

/// Until a connection is taken again where the host had no room for one.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket, which is closed so that nobody is left who has connected and is not heard: such a VMM would wait for ever.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    is_open: bool,
}

impl Door {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, is_open: true }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The next who connects.
    pub(super) async fn next(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                // Whoever it was is gone, or there are too many files open, which passes.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Lets nobody connect any more, and gives those who have and are not taken yet.
    pub(super) fn close(&mut self) -> Vec<UnixStream> {
        self.is_open = false;
        shutdown(&self.listener, Shutdown::Read).ok();
        std::iter::from_fn(|| self.take().ok()).collect()
    }

    fn take(&self) -> io::Result<UnixStream> {
        let socket = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        UnixStream::from_std(net::UnixStream::from(socket))
    }
}
