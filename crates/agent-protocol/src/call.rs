//! Requests to a guest's agent that one reply answers.

use crate::link::{Link, LinkError, Stream};
use crate::message::{Failure, Reply, Request};

/// Why a request to the guest failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The link failed before the reply came.
    #[error("the link to the guest failed")]
    Link(#[from] LinkError),
    /// The agent could not do what was requested.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The reply is not one to this request.
    #[error("unexpected reply from the guest: {0}")]
    Unexpected(String),
}

impl Link {
    /// Sends `request` and returns its reply.
    ///
    /// # Errors
    /// When the link fails, or the agent replies that it could not do it.
    pub async fn call(&self, request: &Request) -> Result<Reply, CallError> {
        self.open(request)?.reply().await
    }
}

impl Stream {
    /// Waits for the next reply on this stream.
    ///
    /// # Errors
    /// When the link fails, or the agent replies that it could not do what was requested.
    pub async fn reply(&mut self) -> Result<Reply, CallError> {
        match self.receiver.message().await? {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(reply),
        }
    }
}

impl Reply {
    /// Expects the reply to a request that has no result.
    ///
    /// # Errors
    /// When it is another reply.
    pub fn done(self) -> Result<(), CallError> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// The error for a reply that does not answer the request.
    #[must_use]
    pub fn unexpected(self) -> CallError {
        CallError::Unexpected(format!("{self:?}"))
    }
}
