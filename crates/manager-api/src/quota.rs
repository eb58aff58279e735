//! Quotas: what a user may keep in all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of all that one user owns. An absent limit does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Machines that exist, whether they run or not, and the clones that the pools of the user's snapshots keep ready.
    #[schema(minimum = 0)]
    pub machines: Option<u32>,
    /// Their vCPUs.
    #[schema(minimum = 0)]
    pub cpus: Option<u32>,
    /// Their memory in MiB.
    #[schema(minimum = 0)]
    pub memory_mib: Option<u64>,
    /// The largest sizes of their writable disks in bytes.
    #[schema(minimum = 0)]
    pub disk_bytes: Option<u64>,
    /// Snapshots.
    #[schema(minimum = 0)]
    pub snapshots: Option<u32>,
    /// The bytes of the host's disk that the snapshots' files occupy. A snapshot that is being taken counts with the size of its
    /// machine's memory, or, if the machine does not run, with the largest size of its disk.
    #[schema(minimum = 0)]
    pub snapshot_bytes: Option<u64>,
    /// Named volumes.
    #[schema(minimum = 0)]
    pub volumes: Option<u32>,
    /// The sizes of the volumes' filesystems in bytes.
    #[schema(minimum = 0)]
    pub volume_bytes: Option<u64>,
}

/// What one user uses of the quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Machines that exist, and clones that pools keep ready.
    pub machines: u64,
    /// Their vCPUs.
    pub cpus: u64,
    /// Their memory in MiB.
    pub memory_mib: u64,
    /// The largest sizes of their writable disks in bytes.
    pub disk_bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// The bytes of the host's disk that the snapshots' files occupy.
    pub snapshot_bytes: u64,
    /// Named volumes.
    pub volumes: u64,
    /// The sizes of the volumes' filesystems in bytes.
    pub volume_bytes: u64,
}

/// A user's quota, and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaReport {
    /// The user's name.
    pub user: String,
    /// The limits.
    pub quota: Quota,
    /// What is used.
    pub usage: Usage,
}
