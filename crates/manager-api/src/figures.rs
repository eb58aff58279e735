//! What a machine uses, which processes run in it, and its addresses.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a machine uses. All counters are of 64 bits and begin with its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineMetrics {
    /// Where the figures come from. With `vmm` they are those of the VMM's process on the host.
    pub source: MetricsSource,
    /// When they were read.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// CPU time in microseconds: of the container, or of the VMM's process.
    pub cpu_micros: u64,
    /// The number of vCPUs.
    pub cpus: u32,
    /// Memory in bytes: of the container with its page cache, or of the VMM's process.
    pub memory_bytes: u64,
    /// The machine's memory in bytes.
    pub memory_limit_bytes: u64,
    /// Processes in the container; null without the agent.
    pub processes: Option<u64>,
    /// The guest's own figures; null without the agent.
    pub guest: Option<GuestMetrics>,
    /// The VMM's process; null if it does not run.
    pub vmm: Option<ProcessMetrics>,
    /// The supervisor's process.
    pub supervisor: Option<ProcessMetrics>,
}

/// Where figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricsSource {
    /// The agent in the guest.
    Agent,
    /// The host's accounting of the VMM's process: the agent does not answer, for example because the machine is paused.
    Vmm,
}

/// A guest's figures, as its own kernel counts them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GuestMetrics {
    /// Seconds since the guest has booted.
    pub uptime_seconds: f64,
    /// CPU time of programs in microseconds, of all vCPUs together.
    pub cpu_user_micros: u64,
    /// CPU time of the kernel in microseconds.
    pub cpu_system_micros: u64,
    /// Idle time in microseconds.
    pub cpu_idle_micros: u64,
    /// Time in microseconds that the host has not given.
    pub cpu_steal_micros: u64,
    /// The average load of one minute.
    pub load_1: f64,
    /// The average load of five minutes.
    pub load_5: f64,
    /// The average load of fifteen minutes.
    pub load_15: f64,
    /// Memory of the guest's kernel in bytes.
    pub memory_total_bytes: u64,
    /// Memory that programs can get without swapping, in bytes.
    pub memory_available_bytes: u64,
    /// Unused memory in bytes.
    pub memory_free_bytes: u64,
    /// Page cache in bytes.
    pub memory_cached_bytes: u64,
    /// The size of the container's root filesystem in bytes.
    pub disk_total_bytes: u64,
    /// Used bytes of it.
    pub disk_used_bytes: u64,
    /// Bytes read from disks.
    pub disk_read_bytes: u64,
    /// Bytes written to disks.
    pub disk_written_bytes: u64,
    /// Bytes received over the NIC.
    pub network_received_bytes: u64,
    /// Bytes sent over the NIC.
    pub network_sent_bytes: u64,
    /// Packets received over the NIC.
    pub network_received_packets: u64,
    /// Packets sent over the NIC.
    pub network_sent_packets: u64,
}

/// A process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessMetrics {
    /// Its PID.
    pub pid: u32,
    /// CPU time in microseconds.
    pub cpu_micros: u64,
    /// Memory in bytes; a page that n processes map counts as 1/n.
    pub pss_bytes: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Memory in bytes that no other process maps.
    pub unique_bytes: u64,
    /// Memory in bytes that others map, too.
    pub shared_bytes: u64,
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessItem {
    /// Its PID in the container.
    pub pid: u32,
    /// Its parent's PID; 0 if that is outside the container.
    pub ppid: u32,
    /// Its owner's UID.
    pub uid: u32,
    /// Its owner's name in the container, or the UID.
    pub user: String,
    /// The kernel's letter for its state: R, S, D, Z, T, …
    pub state: String,
    /// Its terminal, `?` without one.
    pub tty: String,
    /// CPU time in microseconds.
    pub cpu_micros: u64,
    /// Seconds since its start.
    pub elapsed_seconds: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// A signal to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KillRequest {
    /// The signal's name (`TERM`, `SIGTERM`, `RTMIN+3`) or number; `KILL` by default.
    pub signal: Option<String>,
}

/// The address of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestIp {
    /// Its IPv4 address.
    pub ip: Option<String>,
    /// Its IPv6 address.
    pub ip6: Option<String>,
    /// How it is known.
    pub source: GuestIpSource,
    /// Since when it is known.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// How a guest's address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestIpSource {
    /// The machine was created with it.
    Network,
    /// The guest has reported it with the machine's own token, since its last start.
    Guest,
}

/// A guest's report of its address. At least one is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportGuestIp {
    /// Its IPv4 address.
    pub ip: Option<String>,
    /// Its IPv6 address.
    pub ip6: Option<String>,
}
