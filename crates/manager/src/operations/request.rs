//! What an operation does, in a form that is stored.

use mimeo_manager_api::OperationKind;
use serde::{Deserialize, Serialize};

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum OperationRequest {
    /// Creates the machine from its stored request.
    Create {
        /// Start it, too.
        start: bool,
    },
    /// Starts the machine.
    Start,
    /// Stops the machine.
    Stop {
        /// Seconds until SIGKILL; the machine's own setting if absent.
        timeout: Option<u32>,
    },
    /// Stops the machine and starts it again.
    Restart {
        /// Seconds until SIGKILL; the machine's own setting if absent.
        timeout: Option<u32>,
    },
    /// Stops the machine's vCPUs.
    Pause,
    /// Resumes the machine's vCPUs.
    Resume,
    /// Removes the machine.
    Delete {
        /// Seconds until SIGKILL, if it runs.
        timeout: Option<u32>,
        /// Why.
        reason: String,
    },
}

impl OperationRequest {
    /// The kind that the API shows.
    pub(crate) fn kind(&self) -> OperationKind {
        match self {
            Self::Create { .. } => OperationKind::Create,
            Self::Start => OperationKind::Start,
            Self::Stop { .. } => OperationKind::Stop,
            Self::Restart { .. } => OperationKind::Restart,
            Self::Pause => OperationKind::Pause,
            Self::Resume => OperationKind::Resume,
            Self::Delete { .. } => OperationKind::Delete,
        }
    }

    /// Whether DELETE cancels it, with everything undone.
    pub(crate) fn may_cancel(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Start)
    }
}
