//! Why a call to Firecracker failed.

use std::io;

use crate::OperationError;
use crate::firecracker::version::Version;

/// Why a call failed. The step is told so that it stands after "Firecracker
/// was asked".
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens, or not on a socket.
    #[error("cannot reach firecracker {step}")]
    Connect {
        /// What it was to be asked.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It closed the connection before it answered: as a rule, it ended.
    #[error("firecracker broke off when it was asked {step}")]
    Broken {
        /// What it was asked.
        step: String,
        /// How.
        #[source]
        source: hyper::Error,
    },
    /// It said no.
    #[error("firecracker refused {step}: {message}")]
    Refused {
        /// What it was asked.
        step: String,
        /// The answer's status.
        status: u16,
        /// Its own words: `fault_message`.
        message: String,
    },
    /// It said nothing in time.
    #[error("firecracker did not answer {step} within {seconds} s")]
    Silent {
        /// What it was asked.
        step: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It said what cannot be understood.
    #[error("firecracker was asked {step} and gave a strange answer: {what}")]
    Foreign {
        /// What it was asked.
        step: String,
        /// What is strange about the answer.
        what: String,
    },
    /// Its version cannot do it; it was not asked.
    #[error("firecracker {found} cannot {what}: {needed} or later can")]
    TooOld {
        /// Its version.
        found: String,
        /// What was wanted.
        what: &'static str,
        /// The first version that can.
        needed: Version,
    },
}

impl ApiError {
    /// It is not there any more, or not yet.
    pub(crate) fn is_not_listening(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if crate::firecracker::socket::is_not_listening(source))
    }
}

impl From<ApiError> for OperationError {
    fn from(error: ApiError) -> Self {
        match error {
            // It listens as long as it lives.
            ApiError::Connect { .. } | ApiError::Broken { .. } => Self::Gone,
            ApiError::Refused { step, message, .. } => Self::Refused { command: step, message },
            ApiError::Silent { step, seconds } => Self::Silent { command: step, seconds },
            ApiError::Foreign { step, what } => {
                Self::Refused { command: step, message: format!("its answer is strange: {what}") }
            }
            ApiError::TooOld { found, what, needed } => {
                Self::TooOld { program: "firecracker", found, what, needed: needed.to_string() }
            }
        }
    }
}
