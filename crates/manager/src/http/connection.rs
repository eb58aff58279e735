//! One HTTP connection.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::timed_body::TimedBody;
use crate::caller::Peer;

/// Bytes of headers that are read at most, roughly. `guard` has the exact limit.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Answers the requests of a connection until it ends. When `end` is cancelled, the request that is being answered is
/// the last one.
pub(super) async fn serve_connection<S>(
    socket: S,
    peer: Peer,
    router: Router,
    client_timeout: Duration,
    end: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.map(|body| axum::body::Body::new(TimedBody::new(body, client_timeout)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(client_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(component = "http", %error, "a connection ended early");
    }
}
