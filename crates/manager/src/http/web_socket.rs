//! WebSockets: their handshake, their limits, and how a client that is gone is noticed.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{self, Message, Utf8Bytes, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use mimeo_manager_api::stream::{SUBPROTOCOL, ServerMessage, TOKEN_SUBPROTOCOL};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::{ApiError, Result};
use crate::App;

/// The largest message of a client.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Time between two pings.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has sent nothing for this long, not even the answer to a ping, is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// WebSockets at a time: each takes memory for what its client does not read.
static SESSIONS: Semaphore = Semaphore::const_new(2048);

/// Close codes of RFC 6455.
pub(crate) mod close {
    /// All is done.
    pub(crate) const NORMAL: u16 = 1000;
    /// The manager ends.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// To this the status of the problem is added.
    pub(crate) const PROBLEM: u16 = 4000;
}

/// A request that asks for a WebSocket.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        if !is_upgrade(&parts.headers) {
            return Err(ApiError::new(426, "upgrade-required", "this is a WebSocket")
                .with_hint("send the request with the headers of a WebSocket handshake"));
        }
        match WebSocketUpgrade::from_request_parts(parts, state).await {
            Ok(upgrade) => Ok(Self(upgrade)),
            Err(error) => Err(ApiError::invalid(format!("cannot begin a WebSocket: {}", error.body_text()))),
        }
    }
}

/// Whether the request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    upgrade.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The token in the subprotocols that a WebSocket's client offers.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    if !is_upgrade(headers) {
        return None;
    }
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offered.find_map(|protocol| protocol.trim().strip_prefix(TOKEN_SUBPROTOCOL))
}

impl Upgrade {
    /// Answers with the handshake, and then runs `serve` in a task.
    ///
    /// # Errors
    /// If too many WebSockets are open.
    pub(crate) fn serve<F>(
        self,
        app: &App,
        serve: impl FnOnce(WebSocket) -> F + Send + 'static,
    ) -> Result<Response>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let permit = SESSIONS.try_acquire().map_err(|_| {
            ApiError::new(503, "too-many-sessions", "too many WebSockets are open").with_retry_after(1)
        })?;
        let app = app.clone();
        let upgrade = self.0.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
        Ok(upgrade.protocols([SUBPROTOCOL]).on_upgrade(async move |socket| {
            let (sink, stream) = socket.split();
            let session = serve(WebSocket { writer: Writer::new(sink), reader: Reader { stream } });
            app.spawn(async move {
                session.await;
                drop(permit);
            });
        }))
    }
}

/// An open WebSocket.
pub(crate) struct WebSocket {
    /// Its sending half.
    pub(crate) writer: Writer,
    /// Its receiving half.
    pub(crate) reader: Reader,
}

/// A message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    /// Text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// The client has closed the WebSocket, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The receiving half.
pub(crate) struct Reader {
    stream: SplitStream<ws::WebSocket>,
}

impl Reader {
    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> std::result::Result<Received, Gone> {
        loop {
            match timeout(SILENCE_TIMEOUT, self.stream.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Ok(Received::Text(text)),
                Ok(Some(Ok(Message::Binary(bytes)))) => return Ok(Received::Binary(bytes)),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return Err(Gone),
            }
        }
    }

    async fn wait_until_closed(&mut self) {
        while self.next().await.is_ok() {}
    }
}

/// The sending half.
pub(crate) struct Writer {
    sink: SplitSink<ws::WebSocket, Message>,
    pings: Interval,
}

impl Writer {
    fn new(sink: SplitSink<ws::WebSocket, Message>) -> Self {
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { sink, pings }
    }

    /// Sends data on a channel, as fast as the client reads it.
    pub(crate) async fn data(&mut self, channel: u8, bytes: &[u8]) -> std::result::Result<(), Gone> {
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel);
        message.extend_from_slice(bytes);
        self.send(Message::Binary(message.into())).await
    }

    /// Sends bytes.
    pub(crate) async fn bytes(&mut self, bytes: Bytes) -> std::result::Result<(), Gone> {
        self.send(Message::Binary(bytes)).await
    }

    /// Sends a message as JSON.
    pub(crate) async fn json<T: Serialize>(&mut self, message: &T) -> std::result::Result<(), Gone> {
        // Strings and numbers: serialization cannot fail.
        self.send(Message::Text(serde_json::to_string(message).unwrap_or_default().into())).await
    }

    /// Sends pings for as long as `future` takes. `future` must be cancel-safe.
    pub(crate) async fn ping_during<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> std::result::Result<T, Gone> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                result = &mut future => return Ok(result),
                _ = self.pings.tick() => self.send(Message::Ping(Bytes::new())).await?,
            }
        }
    }

    async fn send(&mut self, message: Message) -> std::result::Result<(), Gone> {
        self.sink.send(message).await.map_err(|_| Gone)
    }
}

impl WebSocket {
    /// Reads the client's request, its first message.
    pub(crate) async fn request<T: DeserializeOwned>(&mut self) -> Result<T> {
        let invalid = |detail: String| ApiError::new(400, "invalid-message", detail);
        match timeout(REQUEST_TIMEOUT, self.reader.next()).await {
            Ok(Ok(Received::Text(text))) => super::json::parse_object(text.as_bytes())
                .map_err(|reason| invalid(format!("cannot read the first message, the request: {reason}"))),
            Ok(Ok(Received::Binary(_))) => {
                Err(invalid("the first message is not text: it must be the request as JSON".to_owned()))
            }
            Ok(Err(Gone)) => Err(invalid("the client has closed the WebSocket".to_owned())),
            Err(_) => Err(ApiError::new(408, "request-timeout", "the request did not arrive in time")),
        }
    }

    /// Tells a client whose rights have ended so, and closes the WebSocket. A client that reads nothing is cut off.
    pub(crate) async fn refuse(mut self, why: &ApiError) {
        let problem = why.problem().clone();
        let (code, reason) = (close::PROBLEM + problem.status, problem.code.clone());
        // All WebSockets have the same message for it.
        let message = ServerMessage::Error { problem };
        if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, self.writer.json(&message)).await {
            self.close(code, &reason).await;
        }
    }

    /// Closes the WebSocket, and waits for the client to do the same: what is unread when a socket is closed would
    /// destroy what the client has not read.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = ws::CloseFrame { code, reason: reason.into() };
        let closing = async {
            if self.writer.send(Message::Close(Some(frame))).await.is_ok() {
                self.reader.wait_until_closed().await;
            }
        };
        // A client that does not close is cut off.
        timeout(CLOSE_TIMEOUT, closing).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (axum::http::HeaderName::from_static(name), value.parse().expect("a value"))
        };
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn a_token_is_taken_from_the_subprotocols_of_a_web_socket_only() {
        let offered = ("sec-websocket-protocol", "mimeo.v1, mimeo.token.secret");
        assert_eq!(token(&headers(&[("upgrade", "WebSocket"), offered])), Some("secret"));
        assert_eq!(token(&headers(&[offered])), None);
        assert_eq!(token(&headers(&[("upgrade", "h2c"), offered])), None);
        assert_eq!(
            token(&headers(&[("upgrade", "websocket"), ("sec-websocket-protocol", "mimeo.v1")])),
            None
        );
    }
}
