//! Counts and hashes a layer's uncompressed bytes and enforces the limits.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::LayerProblem;
use crate::digest::{Digest, Hasher};
use crate::limits::Limits;

/// An image's limits and what its layers have used of them.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, bytes: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    /// Charges `n` bytes, or refuses them if they exceed the limit. Refused bytes
    /// are not counted: otherwise a layer that is read concurrently would be refused for them.
    pub(super) fn charge_bytes(&self, n: u64) -> Result<(), LayerProblem> {
        let limit = self.limits.unpacked_bytes;
        // A declared size may be near 2^64, so the sum may overflow.
        let sum = |before: u64| before.checked_add(n).filter(|after| *after <= limit);
        match self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum) {
            Ok(_) => Ok(()),
            Err(_) => Err(LayerProblem::TooLarge { limit }),
        }
    }

    /// Refuses a declared size before its bytes are read.
    pub(super) fn check_fits(&self, n: u64) -> Result<(), LayerProblem> {
        let limit = self.limits.unpacked_bytes;
        let used = self.bytes.load(Ordering::Relaxed);
        if used.checked_add(n).is_some_and(|sum| sum <= limit) {
            Ok(())
        } else {
            Err(LayerProblem::TooLarge { limit })
        }
    }

    pub(super) fn charge_entry(&self) -> Result<(), LayerProblem> {
        let limit = self.limits.entries;
        let before = self.entries.fetch_add(1, Ordering::Relaxed);
        if before < limit { Ok(()) } else { Err(LayerProblem::TooManyEntries { limit }) }
    }

    fn check_ratio(&self, unpacked: u64, compressed: u64) -> Result<(), LayerProblem> {
        let max = compressed.saturating_mul(self.limits.ratio).max(self.limits.ratio_floor);
        if unpacked <= max {
            return Ok(());
        }
        Err(LayerProblem::Bomb { compressed, ratio: self.limits.ratio })
    }
}

/// The unpacked bytes of one layer.
pub(super) struct Metered<'a, R> {
    inner: R,
    hasher: Hasher,
    unpacked: u64,
    compressed: u64,
    budget: &'a Budget,
}

impl<'a, R: Read> Metered<'a, R> {
    pub(super) fn new(inner: R, compressed: u64, budget: &'a Budget) -> Self {
        Self { inner, hasher: Hasher::default(), unpacked: 0, compressed, budget }
    }

    /// The number of bytes read so far.
    pub(super) fn unpacked(&self) -> u64 {
        self.unpacked
    }

    /// Reads some bytes; 0 means the end.
    pub(super) fn read_some(&mut self, buf: &mut [u8]) -> Result<usize, LayerProblem> {
        let n = read_uninterrupted(&mut self.inner, buf).map_err(stream_error)?;
        self.hasher.update(&buf[..n]);
        self.unpacked += n as u64;
        self.budget.charge_bytes(n as u64)?;
        self.budget.check_ratio(self.unpacked, self.compressed)?;
        Ok(n)
    }

    /// Reads until `buf` is full; returns fewer bytes only at the end.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<usize, LayerProblem> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_some(&mut buf[done..])? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// Reads to the end: bytes after the tar's end mark are part of the digest too.
    pub(super) fn finish(mut self) -> Result<Digest, LayerProblem> {
        let mut buf = vec![0; 64 << 10];
        while self.read_some(&mut buf)? > 0 {}
        Ok(self.hasher.finish())
    }
}

fn read_uninterrupted(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn stream_error(error: io::Error) -> LayerProblem {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => LayerProblem::Truncated,
        _ => LayerProblem::BadCompression(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_charge_is_not_counted() {
        let budget = Budget::new(Limits { unpacked_bytes: 100, ..Limits::default() });
        assert!(budget.charge_bytes(101).is_err() && budget.charge_bytes(u64::MAX).is_err());
        assert!(budget.charge_bytes(100).is_ok());
        assert!(budget.charge_bytes(1).is_err());
    }
}
