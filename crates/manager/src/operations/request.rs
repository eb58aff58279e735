//! What an operation does, in a form that is stored.

use mimeo_manager_api::{
    CreateRuntimeSnapshot, OperationKind, PullImage, Resource, ResourceKind, SnapshotKind,
};
use serde::{Deserialize, Serialize};

use crate::secrets::Secrets;

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum OperationRequest {
    /// Creates the machine from its stored request.
    Create {
        /// Start it, too.
        start: bool,
        /// The request contains a login at the image's registry, which is not stored.
        #[serde(default)]
        has_login: bool,
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
        /// Also if it runs, or is being changed. Decided before the operation begins.
        #[serde(default)]
        force: bool,
    },
    /// Takes the snapshot.
    Snapshot {
        /// The machine.
        machine: String,
        /// What the snapshot is to hold.
        contents: Option<SnapshotKind>,
    },
    /// Starts clones of the snapshot.
    Instantiate {
        /// The clones, by their ids.
        machines: Vec<String>,
    },
    /// Starts clones of the machine, all or none.
    Fork {
        /// The clones, by their ids.
        machines: Vec<String>,
    },
    /// Pulls the image.
    Pull {
        /// The request, without a login.
        request: Box<PullImage>,
        /// Whether the request has a login, which is stored nowhere.
        has_login: bool,
    },
    /// Makes the boot snapshot of machines of this configuration.
    Build {
        /// The configuration.
        configuration: CreateRuntimeSnapshot,
    },
    /// Makes a boot snapshot again.
    Rebuild {
        /// The boot snapshot that is replaced.
        snapshot: String,
        /// The configuration of its machines.
        configuration: CreateRuntimeSnapshot,
    },
}

impl OperationRequest {
    /// Creates the machine from its stored request, with these secrets.
    pub(crate) fn create(start: bool, secrets: &Secrets) -> Self {
        Self::Create { start, has_login: secrets.registry_login.is_some() }
    }

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
            Self::Snapshot { .. } => OperationKind::Snapshot,
            Self::Instantiate { .. } => OperationKind::Instantiate,
            Self::Fork { .. } => OperationKind::Fork,
            Self::Pull { .. } => OperationKind::Pull,
            Self::Build { .. } => OperationKind::Build,
            Self::Rebuild { .. } => OperationKind::Rebuild,
        }
    }

    /// The machine that no other operation changes meanwhile.
    pub(crate) fn machine(&self, resource: &Resource) -> Option<String> {
        match self {
            Self::Snapshot { machine, .. } => Some(machine.clone()),
            _ => (resource.kind == ResourceKind::Machine).then(|| resource.id.clone()),
        }
    }

    /// Whether DELETE cancels it, with everything undone.
    pub(crate) fn may_cancel(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Start
                | Self::Instantiate { .. }
                | Self::Pull { .. }
                | Self::Build { .. }
        )
    }
}
