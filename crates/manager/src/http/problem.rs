//! Errors as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::Problem;

use crate::database::DatabaseError;

/// The media type of problem documents.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The result of a handler.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// A problem, as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    problem: Box<Problem>,
    /// Seconds after which the client may try again.
    retry_after: Option<u32>,
}

impl ApiError {
    /// Creates a problem with this stable code.
    pub(crate) fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Problem::new(status, code, detail).into()
    }

    /// The resource does not exist, or belongs to another user.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(404, "not-found", format!("no such {what}: {name:?}"))
    }

    /// The request makes no sense.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid-request", detail)
    }

    /// Adds what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// Adds seconds after which the client may try again.
    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The document.
    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry_after: None }
    }
}

impl From<Box<Problem>> for ApiError {
    fn from(problem: Box<Problem>) -> Self {
        Self { problem, retry_after: None }
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        if let DatabaseError::Quota(exceeded) = &error {
            return Self::new(403, "quota-exceeded", exceeded.to_string())
                .with_hint("remove machines, or ask an administrator for a larger quota");
        }
        let detail = crate::chain::chain(&error);
        tracing::error!(component = "database", "{detail}");
        if let DatabaseError::Sql(_) = error {
            return Self::new(503, "database-unavailable", "cannot use the manager's database")
                .with_hint("try again; the manager's log says what failed")
                .with_retry_after(1);
        }
        Self::new(500, "internal", "the manager failed; its log says why")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and numbers: serialization cannot fail.
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            // What clients of the E2B kind read.
            response.headers_mut().insert("should-retry", HeaderValue::from_static("true"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        // `request_id` writes its id into the document.
        response.extensions_mut().insert(self);
        response
    }
}
