//! How the container is set up, beyond its disks and its network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the container is set up. What is absent is as it was before the field existed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSetup {
    /// CPU time of the container's processes in microseconds per 100 ms, all together.
    pub cpu_quota_micros: Option<u64>,
    /// Largest number of the container's processes and threads.
    pub pids_limit: Option<u64>,
    /// Kernel settings, by their names in sysctl(8).
    pub sysctls: BTreeMap<String, String>,
    /// Kernel settings that are only a default: one that this kernel does not have is no error.
    pub default_sysctls: BTreeMap<String, String>,
    /// Make the container's root read-only when it starts.
    pub read_only: bool,
    /// Temporary filesystems.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of /dev/shm in bytes.
    pub shm_bytes: Option<u64>,
    /// The content of /etc/localtime, as hexadecimal digits.
    pub local_time: Option<String>,
    /// Every device of the guest in /dev, and a writable /sys.
    pub whole_guest: bool,
    /// Leave /etc/hosts as it is in the image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_hosts: bool,
}

/// A temporary filesystem in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// Absolute path in the container; created when it is absent.
    pub target: String,
    /// tmpfs's own options, such as `size=1m`. Without `mode` it has the mode of the image's directory.
    pub options: String,
    /// Mount it read-only.
    pub read_only: bool,
    /// Refuse to execute files of it.
    pub no_exec: bool,
    /// Heed set-user-ID bits.
    pub suid: bool,
    /// Allow device files.
    pub dev: bool,
    /// Start with the image's content at that path.
    pub copy_up: bool,
}
