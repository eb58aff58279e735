//! Boot snapshots: guests that have booted, from which machines are started.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Accelerator;

/// A boot snapshot: a booted guest that waits for its first work. There is one for each configuration of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeSnapshot {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The configuration's name.
    pub tag: String,
    /// Whether machines are started from it. One of an earlier kernel or agent is kept only for what is built on it.
    pub current: bool,
    /// Its number of vCPUs; null if an earlier version has made it, which did not record it.
    pub cpus: Option<u32>,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Whether it has a NIC; null if that was not recorded.
    pub network: Option<bool>,
    /// Its named volumes; null if that was not recorded.
    pub volumes: Option<Vec<RuntimeVolume>>,
    /// The VMM's driver.
    pub driver: String,
    /// What executes the guest's instructions.
    pub accelerator: String,
    /// The guest's kernel.
    pub kernel: String,
    /// Bytes of guest memory that it holds.
    pub memory_bytes: u64,
    /// How many machines run on it, or exist that were started from it.
    pub machines: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A named volume of a boot snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeVolume {
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// The configuration of machines that a boot snapshot is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateRuntimeSnapshot {
    /// The number of vCPUs. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub cpus: Option<u32>,
    /// Memory in MiB. Default: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// The VMM driver: `qemu`, `firecracker` or `auto`. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What executes the guest's instructions. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Whether it has a NIC. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// Its named volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<RuntimeVolume>,
}

/// The boot snapshot that an operation makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeSnapshotBuild {
    /// The configuration.
    pub configuration: String,
    /// The boot snapshot, once it is made.
    pub runtime_snapshot: Option<RuntimeSnapshot>,
}
