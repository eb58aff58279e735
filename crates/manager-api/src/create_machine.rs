//! The request for a new machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for a new machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateMachine {
    /// The image reference.
    pub image: String,
    /// The machine's name; random by default.
    pub name: Option<String>,
    /// The command, instead of the image's.
    pub command: Vec<String>,
    /// Environment variables in addition to the image's.
    pub env: BTreeMap<String, String>,
    /// Labels to find the machine by.
    pub labels: BTreeMap<String, String>,
    /// Seconds after which the machine is removed.
    pub ttl_seconds: Option<u64>,
}
