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
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::authenticate::Peer;
use super::connection::serve_connection;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long connections may take to finish their requests when the manager ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the manager cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: String,
    #[source]
    source: io::Error,
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
    pub(crate) async fn serve(self, router: Router, tls: Option<TlsAcceptor>, end: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = permits.clone().acquire_owned().await;
            tokio::select! {
                () = end.cancelled() => break,
                accepted = self.accept() => {
                    let (router, tls, end) = (router.clone(), tls.clone(), end.clone());
                    let Some((socket, peer)) = accepted else { continue };
                    connections.spawn(async move {
                        serve_socket(socket, peer, router, tls, end).await;
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

async fn serve_socket(
    socket: Socket,
    peer: Peer,
    router: Router,
    tls: Option<TlsAcceptor>,
    end: CancellationToken,
) {
    match (socket, tls) {
        (Socket::Unix(socket), _) => serve_connection(socket, peer, router, end).await,
        (Socket::Tcp(socket), None) => {
            // A small answer must not wait for an acknowledgement. A failure only makes it slower.
            socket.set_nodelay(true).ok();
            serve_connection(socket, peer, router, end).await;
        }
        (Socket::Tcp(socket), Some(tls)) => {
            socket.set_nodelay(true).ok();
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
                Ok(Ok(socket)) => serve_connection(socket, peer, router, end).await,
                Ok(Err(error)) => tracing::debug!(component = "http", %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(component = "http", "TLS handshake timed out"),
            }
        }
    }
}
