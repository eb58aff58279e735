//! What a server has done.

use std::ops::AddAssign;

/// What has been done, for one clone or for all. Pages are of 4 KiB each, whatever the clone's are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Clones that have come.
    pub clones: u64,
    /// Processes that have connected and were refused.
    pub refused: u64,
    /// Clones that could not be served to their end.
    pub failed: u64,
    /// Faults that were answered.
    pub faults: u64,
    /// Pages that were copied for faults, with those round them.
    pub copied: u64,
    /// Pages of zeros that were put in for faults, with those round them.
    pub zeroed: u64,
    /// Pages that were put in before anybody waited for them.
    pub prefetched: u64,
    /// Pages that clones have given back.
    pub removed: u64,
}

impl AddAssign for Figures {
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
