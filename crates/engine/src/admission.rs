//! Checks that there is memory and disk space for one more machine, and reserves it while the machine starts.
//!
//! Clones share the memory that they do not change, and a guest that boots uses only a part of its memory, so the host's
//! memory is overcommitted. What one machine uses for itself at its start is measured (see docs/reference/benchmarks.md). If
//! the host does not have even that much, the machine is refused before it is started, and running machines are not affected.

use std::fs;
use std::path::PathBuf;

use rustix::fs::statvfs;

use crate::machine::{MachineSpec, State};
pub use crate::reserved::{Demand, Reservation};
use crate::{Engine, HostUsage};

/// What a clone uses before it has done any work, including its supervisor, in bytes.
const CLONE_BYTES: u64 = 40 << 20;
/// What a guest of any size uses when it has booted, in bytes: its VMM has 225 MiB with 512 MiB of memory, 254 MiB with 2 GiB.
const BOOTED_BYTES: u64 = 256 << 20;
/// What the VMM and the supervisor use besides the guest's memory, in bytes.
const OVERHEAD_BYTES: u64 = 64 << 20;
/// What a start writes to the home, in bytes: records, logs, the disk's metadata.
const START_DISK_BYTES: u64 = 64 << 20;
/// Memory that stays reserved for the host, in bytes.
const HOST_RESERVE: u64 = 128 << 20;
/// Disk space that stays reserved for the records and logs of machines that run, in bytes.
const DISK_RESERVE: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Why a machine was refused before it was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("insufficient memory: {what} needs about {needed_mib} MiB, {available_mib} MiB available")]
pub struct InsufficientMemory {
    /// What needs it: `a clone` or `the machine`.
    pub what: &'static str,
    /// What it needs, in MiB.
    pub needed_mib: u64,
    /// What the host or the budget has available, in MiB.
    pub available_mib: u64,
}

/// Why a machine was refused before it was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "insufficient disk space in {}: {what} needs about {needed_mib} MiB, {available_mib} MiB available",
    home.display()
)]
pub struct InsufficientSpace {
    /// The directory.
    pub home: PathBuf,
    /// What needs it: `a clone` or `the machine`.
    pub what: &'static str,
    /// What it needs, in MiB.
    pub needed_mib: u64,
    /// What the filesystem has available, in MiB.
    pub available_mib: u64,
}

/// What the host lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Insufficient {
    /// Memory.
    #[error(transparent)]
    Memory(#[from] InsufficientMemory),
    /// Disk space.
    #[error(transparent)]
    Space(#[from] InsufficientSpace),
}

impl Demand {
    /// What a machine from an image needs to start.
    #[must_use]
    pub fn to_start(spec: &MachineSpec) -> Self {
        let most = Self::at_most(spec);
        Self {
            memory_bytes: most.memory_bytes.min(BOOTED_BYTES),
            disk_bytes: most.disk_bytes.min(START_DISK_BYTES),
        }
    }

    /// All that a machine from an image may use of the host, besides its image and its volumes.
    #[must_use]
    pub fn at_most(spec: &MachineSpec) -> Self {
        let memory_bytes = u64::from(spec.memory_mib) * MIB + OVERHEAD_BYTES;
        Self { memory_bytes, disk_bytes: spec.disk_bytes }
    }

    /// What a clone needs to start.
    #[must_use]
    pub fn of_clone() -> Self {
        Self { memory_bytes: CLONE_BYTES, disk_bytes: 0 }
    }
}

/// Reserves memory and disk space for a machine.
///
/// # Errors
/// If the host, the budget or what others have not reserved is not enough.
pub fn reserve(engine: &Engine, demand: Demand) -> Result<Reservation, Insufficient> {
    Available::now(engine).reserve(engine, demand, "the machine")
}

/// What is available of the host, without regard to reservations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Available(Demand);

impl Available {
    /// Returns what is available now: the host's available memory or the rest of the budget (`MIMEO_MEMORY`), whichever is
    /// less, and the free space of the home's filesystem.
    pub(crate) fn now(engine: &Engine) -> Self {
        let host = meminfo("MemAvailable:").unwrap_or(u64::MAX).saturating_sub(HOST_RESERVE);
        let memory_bytes = match engine.memory_budget() {
            Some(budget) => host.min(budget.saturating_sub(machines_bytes(engine))),
            None => host,
        };
        Self(Demand { memory_bytes, disk_bytes: free_bytes(engine).saturating_sub(DISK_RESERVE) })
    }

    /// Reserves memory for one more clone.
    pub(crate) fn reserve_clone(self, engine: &Engine) -> Result<Reservation, InsufficientMemory> {
        let demand = Demand::of_clone();
        let reserved = engine.reservations().reserve(demand, Demand { disk_bytes: u64::MAX, ..self.0 });
        reserved.map_err(|left| insufficient_memory("a clone", demand, left))
    }

    fn reserve(
        self,
        engine: &Engine,
        demand: Demand,
        what: &'static str,
    ) -> Result<Reservation, Insufficient> {
        let reserved = engine.reservations().reserve(demand, self.0);
        reserved.map_err(|left| {
            if demand.memory_bytes > left.memory_bytes {
                return insufficient_memory(what, demand, left).into();
            }
            let home = engine.home().home().to_owned();
            let (needed_mib, available_mib) = (demand.disk_bytes.div_ceil(MIB), left.disk_bytes / MIB);
            InsufficientSpace { home, what, needed_mib, available_mib }.into()
        })
    }
}

fn insufficient_memory(what: &'static str, demand: Demand, left: Demand) -> InsufficientMemory {
    let (needed_mib, available_mib) = (demand.memory_bytes.div_ceil(MIB), left.memory_bytes / MIB);
    InsufficientMemory { what, needed_mib, available_mib }
}

/// Returns the bytes that the home's filesystem has for an ordinary user. If it does not tell, the start finds out.
fn free_bytes(engine: &Engine) -> u64 {
    statvfs(engine.home().home()).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Returns a value of /proc/meminfo in bytes. `MemAvailable` is what can be allocated without swapping.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;

    #[test]
    fn a_machine_that_the_host_cannot_hold_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
        let engine = Engine::new(home).with_memory_budget(Some(300 << 20));
        let small = MachineSpec { memory_mib: 100, disk_bytes: 100 << 20, ..MachineSpec::new("busybox") };
        let held = reserve(&engine, Demand::to_start(&small)).expect("fits");
        // Its guest's memory, and what is used besides that.
        let error = reserve(&engine, Demand::at_most(&small)).expect_err("164 MiB of 136");
        let expected = "insufficient memory: the machine needs about 164 MiB, 136 MiB available";
        assert_eq!(error.to_string(), expected);
        assert!(Available::now(&engine).reserve_clone(&engine.clone()).is_ok());
        drop(held);
        reserve(&engine, Demand::at_most(&small)).expect("fits");
        let large = Demand { memory_bytes: 0, disk_bytes: 1 << 60 };
        assert!(matches!(reserve(&engine, large), Err(Insufficient::Space(_))));
    }
}
