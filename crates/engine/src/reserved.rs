//! What the starts that are under way in this process have reserved of the host's memory and disk.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// An amount of memory and of disk space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Space on the home's filesystem in bytes.
    pub disk_bytes: u64,
}

impl Demand {
    /// Returns the sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// Returns what is left of this when the other is taken.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
        }
    }

    fn fits(self, available: Self) -> bool {
        self.memory_bytes <= available.memory_bytes && self.disk_bytes <= available.disk_bytes
    }
}

/// All reservations of one engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservations(Arc<Mutex<Demand>>);

impl Reservations {
    /// Reserves, if it fits into what is available without the reservations.
    ///
    /// # Errors
    /// With what is left.
    pub(crate) fn reserve(&self, demand: Demand, available: Demand) -> Result<Reservation, Demand> {
        let mut total = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = available.minus(*total);
        if !demand.fits(left) {
            return Err(left);
        }
        *total = total.plus(demand);
        Ok(Reservation { demand, all: self.clone() })
    }
}

/// Memory and disk space that others in this process cannot reserve until this is dropped. Hold it until the machine runs:
/// from then on, the host shows what it uses.
pub struct Reservation {
    demand: Demand,
    all: Reservations,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.demand).finish()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut total = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        *total = total.minus(self.demand);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory_bytes: u64) -> Demand {
        Demand { memory_bytes, ..Demand::default() }
    }

    #[test]
    fn what_is_reserved_is_not_reserved_twice() {
        let all = Reservations::default();
        let available = Demand { memory_bytes: 100, disk_bytes: 10 };
        let first = all.reserve(Demand { memory_bytes: 60, disk_bytes: 4 }, available).expect("fits");
        let left = all.reserve(memory(41), available).expect_err("is too much");
        assert_eq!(left, Demand { memory_bytes: 40, disk_bytes: 6 });
        all.reserve(Demand { memory_bytes: 0, disk_bytes: 7 }, available).expect_err("is too much");
        drop(all.reserve(memory(40), available).expect("fits"));
        // Less is available now, even less than what is reserved.
        all.reserve(memory(1), memory(50)).expect_err("is too much");
        drop(first);
        all.reserve(memory(100), available).expect("fits");
    }

    #[test]
    fn many_threads_reserve_no_more_than_there_is() {
        let all = Reservations::default();
        let held: Vec<_> = std::thread::scope(|scope| {
            let reserve = || all.reserve(memory(7), memory(100)).ok();
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(reserve)).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("ends")).collect()
        });
        assert_eq!(held.len(), 14);
        drop(held);
        assert_eq!(*all.0.lock().expect("unlocked"), Demand::default());
    }
}
