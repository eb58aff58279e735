//! A set of pages as a bitmap. Its size is fixed, whatever the guest does.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Pages;

const WORD: u64 = u64::BITS as u64;

/// A set of pages below a fixed limit. Several threads may add to it concurrently.
#[derive(Debug)]
pub(crate) struct PageBitmap(Box<[AtomicU64]>);

impl PageBitmap {
    /// The empty set, for page numbers below `pages`.
    pub(crate) fn new(pages: u64) -> Self {
        Self((0..pages.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn contains(&self, page: u64) -> bool {
        let word = self.0.get((page / WORD) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (page % WORD) & 1 == 1)
    }

    /// Whether any of these pages is in the set.
    pub(crate) fn contains_any(&self, mut pages: Range<u64>) -> bool {
        pages.any(|page| self.contains(page))
    }

    /// Adds a run of pages. Pages beyond the limit are ignored.
    pub(crate) fn insert(&self, run: &Range<u64>) {
        for (number, word) in self.words(run) {
            let first = number * WORD;
            let low = run.start.saturating_sub(first);
            let high = (run.end - first).min(WORD);
            let mask = u64::MAX >> (WORD - (high - low)) << low;
            // Most pages are added once and looked up often: bits that are already set are not written again.
            if word.load(Ordering::Relaxed) & mask != mask {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// The set as runs.
    pub(crate) fn pages(&self) -> Pages {
        let words = (0..).zip(&self.0).filter(|(_, word)| word.load(Ordering::Relaxed) != 0);
        let pages = words.flat_map(|(number, _)| number * WORD..(number + 1) * WORD);
        pages.filter(|page| self.contains(*page)).map(|page| page..page + 1).collect()
    }

    /// The words that hold the bits of a run.
    fn words(&self, run: &Range<u64>) -> impl Iterator<Item = (u64, &AtomicU64)> {
        let words = if run.is_empty() { 0..0 } else { run.start / WORD..run.end.div_ceil(WORD) };
        words.map_while(|number| Some((number, self.0.get(number as usize)?)))
    }
}

impl From<&Pages> for PageBitmap {
    fn from(pages: &Pages) -> Self {
        let bitmap = Self::new(pages.end());
        pages.runs().for_each(|run| bitmap.insert(&run));
        bitmap
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_and_bitmap_are_the_same_set(runs in proptest::collection::vec((0..400_u64, 0..200_u64), 0..9)) {
            let bitmap = PageBitmap::new(500);
            let runs: Vec<_> = runs.into_iter().map(|(start, length)| start..(start + length).min(500)).collect();
            runs.iter().for_each(|run| bitmap.insert(run));
            let pages: Pages = runs.into_iter().filter(|run| !run.is_empty()).collect();
            prop_assert_eq!(bitmap.pages(), pages.clone());
            prop_assert_eq!(PageBitmap::from(&pages).pages(), pages);
        }
    }

    #[test]
    fn pages_beyond_the_limit_are_ignored() {
        let bitmap = PageBitmap::new(64);
        bitmap.insert(&(60..1 << 40));
        assert!(bitmap.contains(63) && !bitmap.contains(64) && !bitmap.contains(u64::MAX));
        assert!(bitmap.contains_any(0..61) && !bitmap.contains_any(0..60));
    }
}
