//! Checks that there is memory for one more clone.
//!
//! Clones share the memory that they do not change, so the host's memory is overcommitted. What one clone
//! uses for itself is measured (see docs/reference/benchmarks.md). If the host does not have even that much,
//! the clone is refused before it is started, and running clones are not affected.

use std::fs;

use crate::machine::State;
use crate::{Engine, HostUsage};

/// What a clone uses before it has done any work, including its supervisor, in bytes.
const CLONE_BYTES: u64 = 40 << 20;
/// Memory that stays reserved for the host, in bytes.
const HOST_RESERVE: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

/// Why a clone was refused before it was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("insufficient memory: a clone needs about {needed_mib} MiB, {available_mib} MiB available")]
pub struct InsufficientMemory {
    /// What a clone needs, in MiB.
    pub needed_mib: u64,
    /// What the host or the budget has available, in MiB.
    pub available_mib: u64,
}

/// Memory that is available for clones.
#[derive(Debug)]
pub(crate) struct AvailableMemory {
    bytes: u64,
}

impl AvailableMemory {
    /// Returns what is available now: the host's available memory or the rest of the budget
    /// (`MIMEO_MEMORY`), whichever is less.
    pub(crate) fn now(engine: &Engine) -> Self {
        let host = host_available_bytes().unwrap_or(u64::MAX).saturating_sub(HOST_RESERVE);
        let bytes = match engine.memory_budget() {
            Some(budget) => host.min(budget.saturating_sub(machines_bytes(engine))),
            None => host,
        };
        Self { bytes }
    }

    /// Reserves memory for one more clone.
    pub(crate) fn admit(&mut self) -> Result<(), InsufficientMemory> {
        match self.bytes.checked_sub(CLONE_BYTES) {
            Some(bytes) => {
                self.bytes = bytes;
                Ok(())
            }
            None => {
                Err(InsufficientMemory { needed_mib: CLONE_BYTES / MIB, available_mib: self.bytes / MIB })
            }
        }
    }
}

/// Returns `MemAvailable` in bytes: what can be allocated without swapping.
fn host_available_bytes() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// Returns a value of /proc/meminfo in bytes.
pub(crate) fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Returns the memory that mimeo's machines use: the PSS of each, but at least what a clone may need
/// at once.
fn machines_bytes(engine: &Engine) -> u64 {
    let machines = engine.registry().list().unwrap_or_default();
    let living =
        machines.iter().filter(|found| found.supervised && !matches!(found.record.state, State::Exited(_)));
    living.map(|found| HostUsage::measure(&found.record).pss_bytes().max(CLONE_BYTES)).sum()
}
