//! The manager's sockets: TCP, with or without TLS, and Unix.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::serve_connection;
use super::tls::Certificate;
use crate::caller::Peer;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long connections may take to finish their requests when the manager ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is silent before the client is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Pause between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer after which the client is given up.
const KEEPALIVE_PROBES: u32 = 4;
/// How long a client may leave unread what was sent to it, in milliseconds: a person may pause `logs -f` for a while.
const UNREAD_TIMEOUT_MS: u32 = 600_000;

/// Why the manager cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: String,
    #[source]
    source: io::Error,
}

impl ListenError {
    pub(crate) fn new(address: String, source: io::Error) -> Self {
        Self { address, source }
    }
}

/// How connections are answered.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// What answers requests.
    pub(crate) router: Router,
    /// The certificate of TCP connections.
    pub(crate) certificate: Option<Certificate>,
    /// How long a client may take to send a request's headers, and each part of its body.
    pub(crate) client_timeout: Duration,
    /// Cancelled when the manager ends.
    pub(crate) end: CancellationToken,
}

/// A socket that accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix; the file is removed when this is dropped, unless the socket was passed by systemd.
    Unix(UnixListener, Option<SocketFile>),
}

/// The file of a Unix socket.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is left behind is replaced by the next manager.
        std::fs::remove_file(&self.0).ok();
    }
}

impl Listener {
    /// Listens on a TCP address.
    pub(crate) async fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self::Tcp).map_err(|source| ListenError { address: address.to_string(), source })
    }

    /// A socket that systemd has passed.
    pub(crate) fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// A socket that systemd has passed, whose file is systemd's.
    pub(crate) fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(|listener| Self::Unix(listener, None))
    }

    /// Whether other hosts can reach it.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or(true, |address| !address.ip().to_canonical().is_loopback())
            }
            Self::Unix(..) => false,
        }
    }

    /// Listens on a Unix socket that only its owner may connect to. The caller makes sure that no other manager uses
    /// it: a file that is there was left behind.
    pub(crate) fn unix(path: &Path) -> Result<Self, ListenError> {
        let error = |source| ListenError { address: path.display().to_string(), source };
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if is_socket(&metadata) => std::fs::remove_file(path).map_err(error)?,
            Ok(_) => return Err(error(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket"))),
            Err(_) => {}
        }
        // The mode is set before anyone can connect: the socket listens only after `bind` has returned, in one
        // process with this umask.
        let listener = UnixListener::bind(path).map_err(error)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        Ok(Self::Unix(listener, Some(SocketFile(path.to_owned()))))
    }

    /// The address, for people.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp".to_owned(), |address| address.to_string())
            }
            Self::Unix(_, Some(SocketFile(path))) => path.display().to_string(),
            Self::Unix(listener, None) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix".to_owned(), |path| path.display().to_string())
            }
        }
    }

    /// Answers connections until `end`; then lets them finish their requests.
    pub(crate) async fn serve(self, serving: Serving) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = permits.clone().acquire_owned().await;
            tokio::select! {
                () = serving.end.cancelled() => break,
                accepted = self.accept() => {
                    let serving = serving.clone();
                    let Some((socket, peer)) = accepted else { continue };
                    connections.spawn(async move {
                        serve_socket(socket, peer, serving).await;
                        drop(permit);
                    });
                }
            }
            while connections.try_join_next().is_some() {}
        }
        let drained =
            tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::info!(
                component = "http",
                open = connections.len(),
                "closing connections that are still in use"
            );
        }
    }

    async fn accept(&self) -> Option<(Socket, Peer)> {
        let accepted = match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(socket, address)| (Socket::Tcp(socket), Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(socket, _)| (Socket::Unix(socket), Peer::Unix))
            }
        };
        match accepted {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                tracing::warn!(component = "http", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                None
            }
        }
    }
}

fn is_socket(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn serve_socket(socket: Socket, peer: Peer, serving: Serving) {
    let Serving { router, certificate, client_timeout, end } = serving;
    let socket = match socket {
        Socket::Unix(socket) => return serve_connection(socket, peer, router, client_timeout, end).await,
        Socket::Tcp(socket) => socket,
    };
    if let Err(error) = set_options(&socket) {
        tracing::debug!(component = "http", %error, "cannot set a socket's options");
    }
    let Some(certificate) = certificate else {
        return serve_connection(socket, peer, router, client_timeout, end).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT.min(client_timeout), certificate.acceptor().accept(socket))
        .await
    {
        Ok(Ok(socket)) => serve_connection(socket, peer, router, client_timeout, end).await,
        Ok(Err(error)) => tracing::debug!(component = "http", %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(component = "http", "TLS handshake timed out"),
    }
}

/// A client that has vanished is noticed, and one that reads nothing for long is given up.
fn set_options(socket: &tokio::net::TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    // A small answer must not wait for an acknowledgement.
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(sockopt::set_tcp_user_timeout(socket, UNREAD_TIMEOUT_MS)?)
}
