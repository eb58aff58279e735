//! What a container's processes may do.

use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;

/// What the processes of a container may do. Those that are started later by `exec` get the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// The bounding set: root has these, and no process can get others.
    pub bounding: Capabilities,
    /// Capabilities that the container's user has although it is not root.
    pub ambient: Capabilities,
    /// Executing a program gives no process more privileges than it has.
    pub no_new_privileges: bool,
    /// The whole guest: every device, writable /sys, cgroups and kernel settings.
    pub whole_guest: bool,
    /// Additional groups of the container's user, by name or number.
    pub groups: Vec<String>,
    /// Resource limits; the others are the agent's own.
    pub limits: Vec<ResourceLimit>,
    /// The file mode creation mask. Absent: 0022.
    pub umask: Option<u32>,
    /// The adjustment of the score by which the kernel selects a process when memory runs out.
    pub oom_score_adj: Option<i32>,
}

/// A limit of a process, as `setrlimit` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// The soft limit; [`ResourceLimit::UNLIMITED`] for none.
    pub soft: u64,
    /// The hard limit; [`ResourceLimit::UNLIMITED`] for none.
    pub hard: u64,
}

impl ResourceLimit {
    /// No limit.
    pub const UNLIMITED: u64 = u64::MAX;
}

/// A limited resource, by podman's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

impl Resource {
    /// All resources, in the order of the kernel's numbers on x86-64.
    pub const ALL: [Self; 16] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// podman's name, such as `nofile`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fsize => "fsize",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Core => "core",
            Self::Rss => "rss",
            Self::Nproc => "nproc",
            Self::Nofile => "nofile",
            Self::Memlock => "memlock",
            Self::As => "as",
            Self::Locks => "locks",
            Self::Sigpending => "sigpending",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
        }
    }
}
