//! Why a request fails: a problem with a stable code.

use mimeo_manager_api::Problem;

use crate::database::DatabaseError;

/// The result of a request.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// A problem, and when to try again.
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

    /// The problem.
    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Seconds after which the client may try again.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        self.retry_after
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
                .with_hint("remove something else, or ask an administrator for a larger quota");
        }
        let detail = mimeo_engine::cause::chain(&error);
        tracing::error!(component = "database", "{detail}");
        if let DatabaseError::Sql(_) = error {
            return Self::new(503, "database-unavailable", "cannot use the manager's database")
                .with_hint("try again; the manager's log says what failed")
                .with_retry_after(1);
        }
        if let DatabaseError::Full(_) = error {
            return Self::new(
                507,
                "database-full",
                "cannot record the change: the disk of the manager's database is full",
            )
            .with_hint("free space there, and try again; machines run on meanwhile");
        }
        Self::new(500, "internal", "the manager failed; its log says why")
    }
}
