//! How a machine is, by its own kernel's account.

use serde::{Deserialize, Serialize};

/// How a machine is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Processor time since boot, from /proc/stat.
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
    /// Network traffic of the card, from /proc/net/dev.
    pub network: NetworkCounters,
    /// Bytes that the container's processes hold, page cache included (cgroup
    /// memory.current); absent where the kernel does not count.
    pub container_memory_bytes: Option<u64>,
    /// Processor time of the container's processes in microseconds (cgroup cpu.stat).
    pub container_cpu_micros: Option<u64>,
    /// Bytes read from and written to the disks, from /proc/diskstats.
    pub disk_read_bytes: u64,
    /// See `disk_read_bytes`.
    pub disk_written_bytes: u64,
}

/// Processor time in microseconds, of all processors together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Processors in the machine.
    pub count: u32,
    /// In programs (user and nice).
    pub user_micros: u64,
    /// In the kernel (system, irq and softirq).
    pub system_micros: u64,
    /// Idle or waiting for a disk.
    pub idle_micros: u64,
    /// Taken by the host.
    pub steal_micros: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All that the kernel has.
    pub total_bytes: u64,
    /// What programs could get without swapping.
    pub available_bytes: u64,
    /// In no use at all.
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
    /// What is in use.
    pub used_bytes: u64,
}

/// What a network card has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Packets that came in.
    pub received_packets: u64,
    /// Packets that went out.
    pub sent_packets: u64,
}

/// A process of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id in the container's namespace.
    pub pid: u32,
    /// Its parent's, 0 when that is outside.
    pub ppid: u32,
    /// The owner's id.
    pub uid: u32,
    /// The owner's name in the container, or the id again.
    pub user: String,
    /// The kernel's letter: R, S, D, Z, T, …
    pub state: String,
    /// Its terminal, `?` without one.
    pub tty: String,
    /// Processor time since its start, in microseconds.
    pub cpu_micros: u64,
    /// Seconds since its start.
    pub elapsed_seconds: u64,
    /// Memory in use, in bytes.
    pub rss_bytes: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}
