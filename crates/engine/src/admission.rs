//! Whether there is memory for one more copy.
//!
//! Copies share what they do not change, so the memory of a host is promised
//! more than once. What one of them takes by itself is measured (see
//! docs/reference/benchmarks.md); one that the host has not even that for is
//! refused before it is begun, and those that run are left in peace.

use std::fs;

use crate::machine::State;
use crate::{Engine, HostUsage};

/// What a copy takes before it has done any work, monitor and all, in bytes.
const CLONE_BYTES: u64 = 40 << 20;
/// What is left to the host, in bytes.
const HOST_RESERVE: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

/// Why a clone was refused before it was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("insufficient memory: a clone needs about {needed_mib} MiB, {available_mib} MiB available")]
pub struct InsufficientMemory {
    /// What a clone takes, in MiB.
    pub needed_mib: u64,
    /// What the host or the budget has left, in MiB.
    pub available_mib: u64,
}

/// Memory for copies.
#[derive(Debug)]
pub(crate) struct AvailableMemory {
    bytes: u64,
}

impl AvailableMemory {
    /// What there is now: the host's available memory, or what is left of the
    /// budget (`MIMEO_MEMORY`), whichever is less.
    pub(crate) fn now(engine: &Engine) -> Self {
        let host = host_available_bytes().unwrap_or(u64::MAX).saturating_sub(HOST_RESERVE);
        let bytes = match engine.memory_budget() {
            Some(budget) => host.min(budget.saturating_sub(machines_bytes(engine))),
            None => host,
        };
        Self { bytes }
    }

    /// Takes room for one more.
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

/// `MemAvailable`, in bytes: what can be had without swapping.
fn host_available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What mimeo's machines take: each its share, and no less than a copy may
/// come to at once.
fn machines_bytes(engine: &Engine) -> u64 {
    let machines = engine.registry().list().unwrap_or_default();
    let living =
        machines.iter().filter(|found| found.owned && !matches!(found.record.state, State::Exited(_)));
    living.map(|found| HostUsage::measure(&found.record).pss_bytes().max(CLONE_BYTES)).sum()
}
