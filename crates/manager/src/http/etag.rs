//! Versions of resources: `ETag` and `If-Match`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::{ApiError, Result};

/// The `If-Match` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IfMatch(Option<Vec<String>>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().map_err(|_| ApiError::invalid("cannot read the header If-Match"))?;
        Ok(Self(Some(text.split(',').map(|tag| tag.trim().to_owned()).collect())))
    }
}

impl IfMatch {
    /// Any version will do.
    pub(crate) fn any() -> Self {
        Self(None)
    }

    /// Refuses the request if the resource has another version than the client has seen.
    pub(crate) fn check(&self, version: i64) -> Result<()> {
        let Self(Some(tags)) = self else { return Ok(()) };
        if tags.iter().any(|tag| tag == "*" || *tag == quoted(version)) {
            return Ok(());
        }
        let detail = format!("the resource has version {version}, not {}", tags.join(" or "));
        Err(ApiError::new(412, "version-changed", detail).with_hint("read it again, and repeat the change"))
    }
}

/// Adds the `ETag` of a version to an answer.
pub(crate) fn with_etag(version: i64, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(value) = HeaderValue::from_str(&quoted(version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

fn quoted(version: i64) -> String {
    format!("\"{version}\"")
}
