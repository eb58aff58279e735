//! Whether and how a machine's container is logged.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The default size of a log file: that of Docker's `local` driver.
const DEFAULT_MAX_BYTES: u64 = 20 << 20;
/// The default number of log files: that of Docker's `local` driver, and of Kubernetes.
const DEFAULT_MAX_FILES: u32 = 5;

/// The log of a machine's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Where the output is written.
    pub driver: LogDriver,
    /// The size at which a file is rotated, in bytes; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// The number of files, the current one included.
    pub max_files: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { driver: LogDriver::K8sFile, max_bytes: Some(DEFAULT_MAX_BYTES), max_files: DEFAULT_MAX_FILES }
    }
}

/// Where a container's output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// To files in the machine's directory.
    K8sFile,
    /// Nowhere.
    None,
}

impl fmt::Display for LogDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::K8sFile => "k8s-file",
            Self::None => "none",
        })
    }
}
