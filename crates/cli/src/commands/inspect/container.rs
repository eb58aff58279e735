//! What the container may do and use, as `mimeo inspect` shows it, with podman's field names.

use std::collections::BTreeMap;

use mimeo_agent_protocol::Capabilities;
use mimeo_agent_protocol::message::{ResourceLimit, Tmpfs};
use mimeo_engine::Record;
use mimeo_engine::machine::ContainerOptions;
use serde::Serialize;

/// The period of a CPU quota in microseconds, as podman's.
const CPU_PERIOD: u64 = 100_000;
/// Billionths of a CPU for each microsecond of that period.
const NANOS_PER_QUOTA_MICRO: u64 = 10_000;
/// The size of /dev/shm of machines that were created before it could be chosen.
const SHM_BYTES: u64 = 64 << 20;

/// Fields of the document itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProcessFields {
    /// The capabilities of the container's process.
    effective_caps: Capabilities,
    /// The capabilities that a process in the container can have.
    bounding_caps: Capabilities,
}

impl ProcessFields {
    pub(super) fn new(record: &Record) -> Self {
        // A container that was started by a version without this setting has all.
        let Some(privileges) = &record.process.privileges else {
            return Self { effective_caps: Capabilities::ALL, bounding_caps: Capabilities::ALL };
        };
        let user = record.process.user.split(':').next().unwrap_or_default();
        let is_root = matches!(user, "" | "0" | "root");
        let effective_caps =
            if is_root { privileges.bounding } else { privileges.ambient.intersection(privileges.bounding) };
        Self { effective_caps, bounding_caps: privileges.bounding }
    }
}

/// Fields of `Config`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigFields {
    umask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

impl From<&ContainerOptions> for ConfigFields {
    fn from(options: &ContainerOptions) -> Self {
        let umask = options.umask.unwrap_or(0o022);
        Self { umask: format!("{umask:04o}"), timezone: options.time_zone.clone() }
    }
}

/// Fields of `HostConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfigFields {
    privileged: bool,
    cap_add: Capabilities,
    cap_drop: Capabilities,
    security_opt: Vec<String>,
    group_add: Vec<String>,
    ulimits: Vec<Ulimit>,
    /// 0: no limit.
    pids_limit: u64,
    nano_cpus: u64,
    cpu_period: u64,
    cpu_quota: u64,
    memory_swap: i64,
    sysctls: BTreeMap<String, String>,
    readonly_rootfs: bool,
    tmpfs: BTreeMap<String, String>,
    shm_size: u64,
    oom_score_adj: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

impl From<&ContainerOptions> for HostConfigFields {
    fn from(options: &ContainerOptions) -> Self {
        let quota = options.nano_cpus.map(|nanos| nanos / NANOS_PER_QUOTA_MICRO);
        Self {
            privileged: options.privileged,
            cap_add: options.cap_add,
            cap_drop: options.cap_drop,
            security_opt: options.security_opt.clone(),
            group_add: options.group_add.clone(),
            ulimits: options.ulimits.iter().map(Ulimit::from).collect(),
            pids_limit: options.pids_limit.unwrap_or_default(),
            nano_cpus: options.nano_cpus.unwrap_or_default(),
            cpu_period: quota.map_or(0, |_| CPU_PERIOD),
            cpu_quota: quota.unwrap_or_default(),
            memory_swap: options.memory_swap.unwrap_or_default(),
            sysctls: options.sysctls.clone(),
            readonly_rootfs: options.read_only,
            tmpfs: options.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), tmpfs_options(tmpfs))).collect(),
            shm_size: options.shm_bytes.unwrap_or(SHM_BYTES),
            oom_score_adj: options.oom_score_adj.unwrap_or_default(),
        }
    }
}

impl From<&ResourceLimit> for Ulimit {
    /// podman shows no limit as -1.
    fn from(limit: &ResourceLimit) -> Self {
        let value = |value: u64| i64::try_from(value).unwrap_or(-1);
        let name = format!("RLIMIT_{}", limit.resource.name().to_ascii_uppercase());
        Self { name, soft: value(limit.soft), hard: value(limit.hard) }
    }
}

fn tmpfs_options(tmpfs: &Tmpfs) -> String {
    let choose = |is_set, set, unset| if is_set { set } else { unset };
    let flags = [
        choose(tmpfs.read_only, "ro", "rw"),
        choose(tmpfs.suid, "suid", "nosuid"),
        choose(tmpfs.dev, "dev", "nodev"),
        choose(tmpfs.no_exec, "noexec", "exec"),
        choose(tmpfs.copy_up, "tmpcopyup", "notmpcopyup"),
    ];
    let own = Some(tmpfs.options.as_str()).filter(|options| !options.is_empty());
    flags.into_iter().chain(own).collect::<Vec<_>>().join(",")
}
