//! Versions of resources: `ETag` and `If-Match`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::{ApiError, Result};
use crate::precondition::{IfMatch, entity_tag};

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self::any()) };
        let text = value.to_str().map_err(|_| ApiError::invalid("cannot read the header If-Match"))?;
        Ok(Self::one_of(text))
    }
}

/// Adds the `ETag` of a version to an answer.
pub(crate) fn with_etag(version: i64, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(value) = HeaderValue::from_str(&entity_tag(version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}
