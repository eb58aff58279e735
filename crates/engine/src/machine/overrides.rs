//! What a clone has of its own in place of its source's.

use std::collections::BTreeMap;

use mimeo_net::PortMapping;
use serde::{Deserialize, Serialize};

use super::MachineName;

/// What may be asked of a copy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CloneOverrides {
    /// Its name; otherwise two words by chance.
    pub name: Option<MachineName>,
    /// Its published ports; otherwise its original's, at ports of the host that are free.
    pub ports: Option<Vec<PortMapping>>,
    /// Environment, over the image's; its original's is not its own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Remove it when it has ended.
    #[serde(default)]
    pub remove: bool,
}
