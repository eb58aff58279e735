//! Errors of requests to Firecracker.

use std::io;

use crate::OperationError;
use crate::firecracker::version::Version;

/// Why a request failed. `step` completes the phrase "Firecracker was asked".
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing listens, or the file is no socket.
    #[error("cannot connect to firecracker {step}")]
    Connect {
        /// The request.
        step: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Firecracker closed the connection before it answered; usually it has exited.
    #[error("firecracker closed the connection when asked {step}")]
    Disconnected {
        /// The request.
        step: String,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
    /// Firecracker refused.
    #[error("firecracker refused {step}: {message}")]
    Refused {
        /// The request.
        step: String,
        /// The HTTP status.
        status: u16,
        /// Firecracker's message: `fault_message`.
        message: String,
    },
    /// There was no answer in time.
    #[error("firecracker did not answer within {seconds} s when asked {step}")]
    Timeout {
        /// The request.
        step: String,
        /// The timeout.
        seconds: u64,
    },
    /// The answer cannot be parsed.
    #[error("invalid answer from firecracker when asked {step}: {reason}")]
    InvalidAnswer {
        /// The request.
        step: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The version does not support the request, which was not sent.
    #[error("firecracker {found} cannot {operation}: version {needed} or later is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The unsupported operation.
        operation: &'static str,
        /// The first version that supports it.
        needed: Version,
    },
}

impl ApiError {
    /// Whether nothing listens: it has not started to listen, or has exited.
    pub(crate) fn is_not_listening(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if crate::firecracker::socket::is_not_listening(source))
    }
}

impl From<ApiError> for OperationError {
    fn from(error: ApiError) -> Self {
        match error {
            // It listens until it exits.
            ApiError::Connect { .. } | ApiError::Disconnected { .. } => Self::Gone,
            ApiError::Refused { step, message, .. } => Self::Refused { command: step, message },
            ApiError::Timeout { step, seconds } => Self::Timeout { command: step, seconds },
            ApiError::InvalidAnswer { step, reason } => {
                Self::Refused { command: step, message: format!("invalid answer: {reason}") }
            }
            ApiError::TooOld { found, operation, needed } => {
                Self::TooOld { program: "firecracker", found, operation, needed: needed.to_string() }
            }
        }
    }
}
