//! Named volumes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A named volume: a disk that outlives machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedVolume {
    /// Its name.
    pub name: String,
    /// The name of the user who owns it; `local` for volumes that were made without the manager.
    pub owner: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The size of its filesystem in bytes.
    pub size_bytes: u64,
    /// The disk space that it uses, in bytes.
    pub used_bytes: u64,
    /// The ids of the machines that refer to it.
    pub machines: Vec<String>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A volume to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name. Default: a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    pub name: Option<String>,
    /// The size of its filesystem in bytes. It takes only the space that is written. Default: 64 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Labels to find it by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
