//! Bodies of answers that are made while they are sent.

use axum::body::Body;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::ApiError;

/// Pieces that wait for a client to read them.
const QUEUE: usize = 4;

/// The failure after which a body ends early: its connection is closed, so that the client notices.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Sends the pieces of a body. It waits for a client that does not read.
pub(crate) type BodySender = mpsc::Sender<Result<Bytes, BodyError>>;

/// A body that is sent piece by piece.
pub(crate) fn streamed() -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (sender, Body::from_stream(pieces))
}

/// Ends a body early, since the client may not read it any more.
pub(crate) async fn break_off(sender: &BodySender, why: &ApiError) {
    let problem = why.problem();
    tracing::debug!(component = "http", code = problem.code, "an answer is broken off");
    // The client may be gone.
    sender.send(Err(problem.detail.clone().into())).await.ok();
}
