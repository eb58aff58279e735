//! The log of a container's output.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a container's output is logged, and how much of it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where the output is written. Default: `k8s-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<LogDriver>,
    /// The size in bytes at which a file is rotated: at least 1024, or 0 for no limit. Default: 20 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The number of files, the current one included. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_files: Option<u32>,
}

/// Where a container's output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// To files in the machine's directory.
    K8sFile,
    /// Nowhere.
    None,
}
