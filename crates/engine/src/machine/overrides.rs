//! What a clone does not take over from its source.

use std::collections::BTreeMap;

use mimeo_net::PortMapping;
use serde::{Deserialize, Serialize};

use super::{MachineId, MachineName};

/// Options of one clone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CloneOverrides {
    /// Its name. Default: a random name.
    pub name: Option<MachineName>,
    /// Its published ports. Default: its source's guest ports, on free ports of the host.
    pub ports: Option<Vec<PortMapping>>,
    /// Environment variables in addition to the image's. Those set for the source are in its workload's memory, and a later
    /// start of the container sets them again.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Remove the machine when it has exited.
    #[serde(default)]
    pub remove: bool,
    /// Its id; random if absent. A clone that waited in a pool has one already, and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MachineId>,
    /// Its labels. Default: its source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}
