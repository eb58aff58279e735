//! Quotas: what the machines of a user may use in all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of all machines of one user. An absent limit does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Machines that exist, whether they run or not.
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
}

/// What the machines of one user use of the quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Machines that exist.
    pub machines: u64,
    /// Their vCPUs.
    pub cpus: u64,
    /// Their memory in MiB.
    pub memory_mib: u64,
    /// The largest sizes of their writable disks in bytes.
    pub disk_bytes: u64,
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
