//! Counters of a page server.

use std::ops::AddAssign;

/// Counters, for one clone or for all. Pages are counted in 4 KiB, whatever the clone's page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Clones served.
    pub clones: u64,
    /// Clients refused.
    pub refused: u64,
    /// Clones that were killed because they could not be served any longer.
    pub failed: u64,
    /// Faults answered.
    pub faults: u64,
    /// Pages copied for faults, including neighbours.
    pub copied: u64,
    /// Zero pages installed for faults, including neighbours.
    pub zeroed: u64,
    /// Pages installed before they were touched.
    pub prefetched: u64,
    /// Pages that clones have removed (balloon, `MADV_DONTNEED`).
    pub removed: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.clones += other.clones;
        self.refused += other.refused;
        self.failed += other.failed;
        self.faults += other.faults;
        self.copied += other.copied;
        self.zeroed += other.zeroed;
        self.prefetched += other.prefetched;
        self.removed += other.removed;
    }
}
