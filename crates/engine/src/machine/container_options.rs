//! What the container may do and use, as the user requests it.

use std::collections::BTreeMap;

use mimeo_agent_protocol::Capabilities;
use mimeo_agent_protocol::message::{Privileges, ResourceLimit, Tmpfs};
use serde::{Deserialize, Serialize};

/// The capabilities of a container, by default: podman's.
///
/// The virtual machine protects the host whatever the container may do, so this set protects the guest: with
/// CAP_SYS_ADMIN or CAP_SYS_RESOURCE, root in the container could lift the limits that the user has set (CPU time,
/// processes, read-only root, ulimits), and reach the agent and the disks. Images that work with podman work with
/// this set, and options such as `--cap-add` mean what they mean there. `--privileged` gives the whole guest.
const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What the container may do and use. The default is podman's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerOptions {
    /// The whole guest: all capabilities and devices, writable /sys, cgroups and kernel settings.
    pub privileged: bool,
    /// Capabilities in addition to the default ones.
    pub cap_add: Capabilities,
    /// Default capabilities to leave out.
    pub cap_drop: Capabilities,
    /// Executing a program gives no process more privileges than it has.
    pub no_new_privileges: bool,
    /// The `--security-opt` values, as given.
    pub security_opt: Vec<String>,
    /// Additional groups of the user, by name or number.
    pub group_add: Vec<String>,
    /// Resource limits.
    pub ulimits: Vec<ResourceLimit>,
    /// Largest number of processes and threads.
    pub pids_limit: Option<u64>,
    /// CPU time in billionths of a CPU, where that is less than the machine's vCPUs.
    pub nano_cpus: Option<u64>,
    /// Memory plus swap in bytes, as requested; -1 is unlimited. The guest has no swap.
    pub memory_swap: Option<i64>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Make the root filesystem read-only.
    pub read_only: bool,
    /// Temporary filesystems.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of /dev/shm in bytes.
    pub shm_bytes: Option<u64>,
    /// The time zone: a name in the host's /usr/share/zoneinfo, or `local`.
    pub time_zone: Option<String>,
    /// The file mode creation mask.
    pub umask: Option<u32>,
    /// The OOM score adjustment.
    pub oom_score_adj: Option<i32>,
}

impl ContainerOptions {
    /// The bounding set: the capabilities that root in the container has.
    #[must_use]
    pub fn bounding(&self) -> Capabilities {
        if self.privileged {
            return Capabilities::ALL;
        }
        if self.cap_add == Capabilities::ALL {
            return Capabilities::ALL.without(self.cap_drop);
        }
        default_capabilities().without(self.cap_drop).union(self.cap_add)
    }

    /// What the container's processes may do.
    #[must_use]
    pub fn privileges(&self) -> Privileges {
        Privileges {
            bounding: self.bounding(),
            ambient: self.cap_add,
            no_new_privileges: self.no_new_privileges,
            whole_guest: self.privileged,
            groups: self.group_add.clone(),
            limits: self.ulimits.clone(),
            umask: self.umask,
            oom_score_adj: self.oom_score_adj,
        }
    }
}

/// [`DEFAULT_CAPABILITIES`] as a set.
fn default_capabilities() -> Capabilities {
    DEFAULT_CAPABILITIES
        .iter()
        .filter_map(|name| Capabilities::parse(name).ok())
        .fold(Capabilities::NONE, Capabilities::union)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Capabilities {
        Capabilities::parse(name).expect("a capability")
    }

    #[test]
    fn the_default_set_is_podmans() {
        assert_eq!(ContainerOptions::default().bounding().mask(), 0x8004_05fb);
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let bounding = |cap_add, cap_drop, privileged| {
            ContainerOptions { cap_add, cap_drop, privileged, ..Default::default() }.bounding()
        };
        let (none, all) = (Capabilities::NONE, Capabilities::ALL);
        assert_eq!(bounding(none, all, false), none);
        assert_eq!(bounding(set("net_admin"), all, false), set("net_admin"));
        assert_eq!(bounding(none, set("chown"), false), default_capabilities().without(set("chown")));
        assert_eq!(bounding(all, set("chown"), false), all.without(set("chown")));
        assert_eq!(bounding(none, all, true), all);
    }
}
