//! Memory and CPU time that a machine's processes use on the host.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::machine::{ProcessIdentity, Record};

/// Microseconds in one of the kernel's clock ticks (`USER_HZ` is 100 wherever Linux runs).
const TICK_MICROS: u64 = 10_000;

/// The resources that one process of the host uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Its PID.
    pub pid: u32,
    /// PSS in bytes: a page that n processes map counts as 1/n.
    pub pss_bytes: u64,
    /// RSS in bytes: all resident pages that it maps.
    pub rss_bytes: u64,
    /// USS in bytes: pages that no other process maps, which are freed when it ends.
    pub unique_bytes: u64,
    /// Resident pages that other processes map too, in bytes.
    pub shared_bytes: u64,
    /// CPU time in microseconds, including threads that have ended.
    pub cpu_micros: u64,
}

/// The resources that a machine uses on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUsage {
    /// The VMM; `None` if it has ended.
    pub vmm: Option<ProcessUsage>,
    /// The supervisor; `None` if it has ended.
    pub supervisor: Option<ProcessUsage>,
}

impl HostUsage {
    /// Measures the current usage of `record`'s processes.
    #[must_use]
    pub fn measure(record: &Record) -> Self {
        Self {
            vmm: record.vmm.as_ref().and_then(process_usage),
            supervisor: process_usage(&record.supervisor),
        }
    }

    /// Returns the PSS of both processes: a page that n processes map counts as 1/n.
    #[must_use]
    pub fn pss_bytes(&self) -> u64 {
        self.sum(|usage| usage.pss_bytes)
    }

    /// Returns the sum of the processes' USS.
    #[must_use]
    pub fn unique_bytes(&self) -> u64 {
        self.sum(|usage| usage.unique_bytes)
    }

    /// Returns the sum of the processes' shared pages.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.sum(|usage| usage.shared_bytes)
    }

    fn sum(&self, value: impl Fn(ProcessUsage) -> u64) -> u64 {
        [self.vmm, self.supervisor].into_iter().flatten().map(value).sum()
    }
}

fn process_usage(identity: &ProcessIdentity) -> Option<ProcessUsage> {
    if !identity.is_alive() {
        return None;
    }
    let pid = identity.pid;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ProcessUsage {
        pid,
        pss_bytes: field_bytes(&rollup, "Pss:")?,
        rss_bytes: field_bytes(&rollup, "Rss:")?,
        unique_bytes: field_bytes(&rollup, "Private_Clean:")? + field_bytes(&rollup, "Private_Dirty:")?,
        shared_bytes: field_bytes(&rollup, "Shared_Clean:")? + field_bytes(&rollup, "Shared_Dirty:")?,
        cpu_micros: cpu_micros(&stat)?,
    })
}

/// `Pss:     1234 kB`, in bytes.
fn field_bytes(rollup: &str, key: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Fields 14 and 15 of /proc/PID/stat: time in user mode and in kernel mode.
fn cpu_micros(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some((user + kernel) * TICK_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0  [rollup]\nRss:    2048 kB\nPss:    1024 kB\n";
        assert_eq!(field_bytes(rollup, "Pss:"), Some(1024 * 1024));
        assert_eq!(field_bytes(rollup, "Swap:"), None);
        let stat = "1 (a) b) S 0 1 1 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 3 0 0";
        assert_eq!(cpu_micros(stat), Some(120_000));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = process_usage(&ProcessIdentity::own()).expect("it runs");
        assert!(usage.pss_bytes > 0 && usage.rss_bytes >= usage.pss_bytes);
    }
}
