//! Machines, images and snapshots as the engine records them (`?view=record`): for the command line of the same version,
//! which shows them as it shows those of its own host.

use std::path::PathBuf;

use mimeo_agent_protocol::message::Metrics;
use mimeo_engine::{Found, HostUsage, Record};
use serde::{Deserialize, Serialize};

/// A machine as the engine records it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Its record.
    pub record: Record,
    /// Its directory on the manager's host.
    pub dir: PathBuf,
    /// Whether its supervisor runs.
    pub supervised: bool,
}

impl From<Found> for MachineRecord {
    fn from(Found { record, dir, supervised }: Found) -> Self {
        Self { record, dir, supervised }
    }
}

impl From<MachineRecord> for Found {
    fn from(MachineRecord { record, dir, supervised }: MachineRecord) -> Self {
        Self { record, dir, supervised }
    }
}

/// What a machine uses: as the guest's kernel counts it, and as the host does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The agent's metrics, if it has answered.
    pub metrics: Option<Metrics>,
    /// The resources of the host.
    pub host: HostUsage,
}
