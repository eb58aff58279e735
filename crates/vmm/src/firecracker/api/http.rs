//! One request per connection: after a timeout or a cancellation no late answer can be taken for that of the
//! next request.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;
use crate::firecracker::socket;

/// Maximum bytes of an answer: metadata may have some 50 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// A request to Firecracker.
pub(super) struct Request {
    step: String,
    method: Method,
    path: String,
    body: Bytes,
}

impl Request {
    pub(super) fn get(step: &str, path: &str) -> Self {
        Self { step: step.to_owned(), method: Method::GET, path: path.to_owned(), body: Bytes::new() }
    }

    pub(super) fn with_body(
        step: &str,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ApiError::InvalidAnswer { step: step.to_owned(), reason: error.to_string() })?;
        Ok(Self { step: step.to_owned(), method, path: path.to_owned(), body: body.into() })
    }
}

/// Sends a request whose answer has no content.
pub(super) async fn send(
    directory: &OwnedFd,
    socket: &str,
    request: Request,
    limit: Duration,
) -> Result<(), ApiError> {
    send_request(directory, socket, request, limit).await.map(drop)
}

/// Sends a request, and parses the answer.
pub(super) async fn read<T: DeserializeOwned>(
    directory: &OwnedFd,
    socket: &str,
    request: Request,
    limit: Duration,
) -> Result<T, ApiError> {
    let step = request.step.clone();
    let answer = send_request(directory, socket, request, limit).await?;
    serde_json::from_slice(&answer)
        .map_err(|error| ApiError::InvalidAnswer { step, reason: error.to_string() })
}

async fn send_request(
    directory: &OwnedFd,
    socket: &str,
    request: Request,
    limit: Duration,
) -> Result<Bytes, ApiError> {
    let step = request.step.clone();
    match timeout(limit, exchange(directory, socket, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::Timeout { step, seconds: limit.as_secs() }),
    }
}

async fn exchange(directory: &OwnedFd, socket: &str, request: Request) -> Result<Bytes, ApiError> {
    let Request { step, method, path, body } = request;
    let stream = socket::connect(directory, socket)
        .await
        .map_err(|source| ApiError::Connect { step: step.clone(), source })?;
    let broken = |source| ApiError::Disconnected { step: step.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| ApiError::InvalidAnswer { step: step.clone(), reason: error.to_string() })?;
    // This task drives the exchange, and is aborted after it.
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    driving.abort();
    let body =
        body.map_err(|error| ApiError::InvalidAnswer { step: step.clone(), reason: error.to_string() })?;
    check_status(step, status, body.to_bytes())
}

#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

fn check_status(step: String, status: StatusCode, body: Bytes) -> Result<Bytes, ApiError> {
    if status.is_success() {
        return Ok(body);
    }
    let message = serde_json::from_slice(&body).map_or_else(
        |_| String::from_utf8_lossy(&body).trim().to_owned(),
        |Fault { fault_message }| fault_message,
    );
    Err(ApiError::Refused { step, status: status.as_u16(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_carries_firecrackers_message() {
        let body = Bytes::from_static(br#"{"fault_message":"not now."}"#);
        let error = check_status("to pause".into(), StatusCode::BAD_REQUEST, body).expect_err("refused");
        assert_eq!(error.to_string(), "firecracker refused to pause: not now.");
        let bare = check_status("to pause".into(), StatusCode::NOT_FOUND, Bytes::from_static(b"what?\n"));
        assert!(matches!(bare, Err(ApiError::Refused { status: 404, message, .. }) if message == "what?"));
    }
}
