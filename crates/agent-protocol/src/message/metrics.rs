//! A machine's metrics, as its own kernel counts them.

use serde::{Deserialize, Serialize};

/// A machine's metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// CPU time since boot, from /proc/stat.
    pub cpu: Cpu,
    /// Memory, from /proc/meminfo.
    pub memory: Memory,
    /// Load, from /proc/loadavg.
    pub load: Load,
    /// Seconds since boot.
    pub uptime_seconds: f64,
    /// Processes in the container.
    pub processes: u64,
    /// The container's root filesystem.
    pub disk: Filesystem,
    /// Network traffic of the NIC, from /proc/net/dev.
    pub network: NetworkCounters,
    /// Memory of the container's processes in bytes, page cache included (cgroup
    /// memory.current); absent where the kernel does not count it.
    pub container_memory_bytes: Option<u64>,
    /// CPU time of the container's processes in microseconds (cgroup cpu.stat).
    pub container_cpu_micros: Option<u64>,
    /// Bytes read from and written to the disks, from /proc/diskstats.
    pub disk_read_bytes: u64,
    /// See `disk_read_bytes`.
    pub disk_written_bytes: u64,
}

/// CPU time in microseconds, of all vCPUs together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Number of vCPUs.
    pub count: u32,
    /// In programs (user and nice).
    pub user_micros: u64,
    /// In the kernel (system, irq and softirq).
    pub system_micros: u64,
    /// Idle or waiting for a disk.
    pub idle_micros: u64,
    /// Stolen by the host.
    pub steal_micros: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Total memory of the kernel.
    pub total_bytes: u64,
    /// Available to programs without swapping.
    pub available_bytes: u64,
    /// Unused.
    pub free_bytes: u64,
    /// Page cache.
    pub cached_bytes: u64,
}

/// Load averages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

/// A filesystem, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Its size.
    pub total_bytes: u64,
    /// Used space.
    pub used_bytes: u64,
}

/// A NIC's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// Received bytes.
    pub received_bytes: u64,
    /// Sent bytes.
    pub sent_bytes: u64,
    /// Received packets.
    pub received_packets: u64,
    /// Sent packets.
    pub sent_packets: u64,
}

/// A process of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its PID in the container's namespace.
    pub pid: u32,
    /// Its parent's PID; 0 when the parent is outside the container.
    pub ppid: u32,
    /// The owner's UID.
    pub uid: u32,
    /// The owner's name in the container, or the UID where it has none.
    pub user: String,
    /// The kernel's letter: R, S, D, Z, T, …
    pub state: String,
    /// Its terminal, `?` without one.
    pub tty: String,
    /// CPU time since its start, in microseconds.
    pub cpu_micros: u64,
    /// Seconds since its start.
    pub elapsed_seconds: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}
