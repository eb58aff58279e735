//! systemd: sockets that it passes, and what it is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use listenfd::ListenFd;

use crate::http::listen::{ListenError, Listener};

/// The sockets that systemd has passed.
pub(crate) fn sockets() -> Result<Vec<Listener>, ListenError> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).map(|index| socket(&mut passed, index)).collect()
}

fn socket(passed: &mut ListenFd, index: usize) -> Result<Listener, ListenError> {
    let error = |source| ListenError::new(format!("the socket {index} that systemd passed"), source);
    if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
        return Listener::from_tcp(listener).map_err(error);
    }
    match passed.take_unix_listener(index).map_err(error)? {
        Some(listener) => Listener::from_unix(listener).map_err(error),
        None => Err(error(std::io::Error::new(std::io::ErrorKind::NotFound, "it is not there"))),
    }
}

/// Tells systemd the state of this service. Nobody may listen.
pub(crate) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(component = "manager", %error, "cannot notify systemd");
    }
}
