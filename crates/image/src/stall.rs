//! Ends requests that make no progress. The HTTP client's own read timeout starts with a request and does not see that
//! its body is still being sent, so it would end every upload that takes longer.

use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use oci_client::errors::OciDistributionError as ClientError;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A body, and a channel that changes with each of its chunks and closes with its end.
pub(crate) fn watched<S: Stream>(body: S) -> (impl Stream<Item = S::Item> + use<S>, watch::Receiver<()>) {
    let (sender, progress) = watch::channel(());
    (body.inspect(move |_| sender.send_replace(())), progress)
}

/// Ends the request if for `limit` no chunk of its body is taken, and after the last chunk no reply comes.
pub(crate) async fn unless_stalled<T>(
    request: impl Future<Output = Result<T, ClientError>>,
    progress: watch::Receiver<()>,
    limit: Duration,
) -> Result<T, ClientError> {
    tokio::select! {
        done = request => done,
        () = stall(progress, limit) => {
            let reason = format!("no progress for {} s", limit.as_secs());
            Err(ClientError::IoError(io::Error::new(io::ErrorKind::TimedOut, reason)))
        }
    }
}

async fn stall(mut progress: watch::Receiver<()>, limit: Duration) {
    loop {
        match timeout(limit, progress.changed()).await {
            Ok(Ok(())) => {}
            // The body has ended: the reply is awaited.
            Ok(Err(_)) => return sleep(limit).await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Sends chunks with a pause before each, and gets the reply after another pause.
    async fn request(chunks: u32, pause: Duration, until_reply: Duration) -> Result<u32, ClientError> {
        let body = stream::iter(0..chunks).then(move |chunk| async move {
            sleep(pause).await;
            chunk
        });
        let (body, progress) = watched(body);
        let sent = async {
            let sent = Box::pin(body).count().await;
            sleep(until_reply).await;
            Ok(sent as u32)
        };
        unless_stalled(sent, progress, LIMIT).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_long_while_it_makes_progress() {
        assert_eq!(request(100, LIMIT * 9 / 10, LIMIT * 9 / 10).await.unwrap(), 100);
        assert_eq!(request(0, LIMIT, LIMIT * 9 / 10).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_progress_is_ended() {
        for stalled in [request(2, LIMIT * 2, Duration::ZERO), request(2, Duration::ZERO, LIMIT * 2)] {
            let error = stalled.await.unwrap_err();
            assert!(error.to_string().contains("no progress for 10 s"), "{error}");
        }
    }
}
