//! Operations: changes that take time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Problem, Stage};

/// A change that takes time. Finished operations are kept for at least an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub status: OperationStatus,
    /// What it changes.
    pub resource: Resource,
    /// The current stage.
    pub stage: Option<String>,
    /// Progress within that stage.
    pub progress: Option<Progress>,
    /// The stages that have ended.
    pub stages: Vec<Stage>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// What it produced, if that is more than the resource.
    #[schema(value_type = Option<Object>)]
    pub result: Option<serde_json::Value>,
    /// The name of the user who requested it.
    pub created_by: String,
    /// Whether DELETE cancels it.
    pub may_cancel: bool,
    /// When it was requested.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last updated.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it finished.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Creates a machine, and starts it unless the request says otherwise.
    Create,
    /// Starts a machine.
    Start,
    /// Stops a machine.
    Stop,
    /// Stops a machine and starts it again.
    Restart,
    /// Stops a machine's vCPUs.
    Pause,
    /// Resumes a paused machine.
    Resume,
    /// Removes a machine.
    Delete,
    /// Takes a snapshot of a machine.
    Snapshot,
    /// Starts clones of a snapshot.
    Instantiate,
    /// Starts clones of a running machine, all or none.
    Fork,
    /// Pulls an image.
    Pull,
    /// Makes a boot snapshot.
    Build,
    /// Makes a boot snapshot again.
    Rebuild,
}

/// The status of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// It is being carried out.
    Running,
    /// It was carried out.
    Succeeded,
    /// It failed; `error` says why.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl OperationStatus {
    /// Returns whether an operation with this status has ended.
    #[must_use]
    pub fn is_finished(self) -> bool {
        self != Self::Running
    }
}

/// The resource that an operation changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its id.
    pub id: String,
}

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A machine: a VM and its container.
    Machine,
    /// A machine's snapshot.
    Snapshot,
    /// A boot snapshot.
    RuntimeSnapshot,
    /// An image.
    Image,
    /// A named volume.
    Volume,
    /// An operation.
    Operation,
    /// A user.
    User,
    /// A token.
    Token,
    /// The manager itself.
    Manager,
}

/// How much of a stage is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
    /// The unit, such as `bytes`.
    pub unit: String,
}
