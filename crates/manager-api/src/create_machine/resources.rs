//! Limits of a container, and settings of its guest's kernel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of a container, and settings of its guest's kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// The machine's vCPUs, where they are more than `cpus`, which limits the container's CPU time then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub vcpus: Option<u32>,
    /// Maximum number of processes and threads. Default, and 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Memory plus swap in bytes. The guest has no swap: only the size of the memory, 0, and -1 (unlimited) are possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub memory_swap_bytes: Option<i64>,
    /// Size of /dev/shm in bytes. Default: 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub shm_bytes: Option<u64>,
    /// Limits of each process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// Settings of the guest's kernel, by their names in sysctl(8).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Adjustment of the score by which the guest's kernel kills a process when memory runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1000, maximum = 1000)]
    pub oom_score_adj: Option<i32>,
}

/// A limit of each process, as setrlimit(2) takes it. -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// The resource, such as `nofile`, `nproc` or `core`.
    pub name: String,
    /// The soft limit.
    #[schema(minimum = -1)]
    pub soft: i64,
    /// The hard limit.
    #[schema(minimum = -1)]
    pub hard: i64,
}
