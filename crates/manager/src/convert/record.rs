//! Machines as the engine records them (`?view=record`): for the command line of the same version,
//! which shows them as it shows those of its own host.

use std::path::PathBuf;

use mimeo_engine::{Found, Record};
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
