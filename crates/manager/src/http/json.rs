//! Bodies of requests and answers.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::timed_body::BodyTimeout;
use super::{ApiError, Rights};

/// The largest JSON body of a request.
const MAX_BYTES: usize = 4 << 20;
/// How long a client may take to send it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => {
                tracing::error!(component = "http", %error, "cannot serialize an answer");
                ApiError::new(500, "internal", "the manager failed; its log says why").into_response()
            }
        }
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        check_type(&request)?;
        let rights = request.extensions().get::<Rights>().cloned();
        let bytes = read(request.into_body(), MAX_BYTES).await?;
        // The body may have been held back until the rights had ended.
        if let Some(rights) = rights {
            rights.check_changes().await?;
        }
        // An absent body is an empty object, for requests of which every field is optional.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        parse_object(bytes).map(Self).map_err(|reason| {
            ApiError::new(400, "invalid-body", format!("cannot read the request's body: {reason}"))
        })
    }
}

/// Parses a document that must be an object: serde would also take a list for a struct, field by field.
pub(super) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is not a JSON object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn check_type(request: &Request) -> Result<(), ApiError> {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") || media_type.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("cannot read a body of type {media_type:?}");
    Err(ApiError::new(415, "unsupported-media-type", detail).with_hint("send application/json"))
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(body: Body, max: usize) -> Result<bytes::Bytes, ApiError> {
    match tokio::time::timeout(TIMEOUT, to_bytes(body, max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => {
            let detail = format!("the request's body is longer than {max} bytes");
            Err(ApiError::new(413, "body-too-large", detail))
        }
        Ok(Err(error)) if is_late(&error) => Err(ApiError::new(408, "body-timeout", error.to_string())),
        Ok(Err(error)) => {
            Err(ApiError::new(400, "invalid-body", format!("cannot read the request's body: {error}")))
        }
        Err(_) => {
            let detail = format!("the request's body did not arrive within {} s", TIMEOUT.as_secs());
            Err(ApiError::new(408, "body-timeout", detail))
        }
    }
}

fn is_late(error: &axum::Error) -> bool {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<BodyTimeout>)
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use mimeo_manager_api::{ExecRequest, PatchUser};

    use super::*;

    #[test]
    fn only_objects_are_read() {
        assert!(parse_object::<PatchUser>(b" \n{}").is_ok());
        for body in ["[]", " [null]", "[\"admin\", true]", "null", "1", "\"x\"", "", " "] {
            assert_eq!(
                parse_object::<PatchUser>(body.as_bytes()).expect_err(body),
                "it is not a JSON object",
                "{body}"
            );
        }
        assert!(parse_object::<ExecRequest>(b"[[\"true\"]]").is_err());
        assert!(parse_object::<PatchUser>(b"{} {}").is_err());
    }
}
