//! A set of guest pages.

use std::ops::Range;

use crate::PAGE;

/// The first bytes of the file format; the last of them is its version.
const MAGIC: [u8; 8] = *b"mmpages\x01";
const RUN_BYTES: usize = 16;

/// A set of guest pages, as a minimal list of sorted, disjoint runs of page numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    runs: Vec<Range<u64>>,
}

/// Why bytes are not a valid list of pages.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// The magic or its version does not match.
    #[error("not a list of pages, or of another format version")]
    Magic,
    /// The length does not match the number of runs.
    #[error("a list of pages of {bytes} bytes is truncated or too long")]
    Length {
        /// The length in bytes.
        bytes: usize,
    },
    /// A run is empty or exceeds the end of memory.
    #[error("run {run} of a list of pages is empty or exceeds the end of memory")]
    Bounds {
        /// The run's index, from 0.
        run: usize,
    },
    /// A run begins before the end of the previous one, or directly at it.
    #[error("run {run} of a list of pages overlaps or touches the previous one")]
    Order {
        /// The run's index, from 0.
        run: usize,
    },
}

impl Pages {
    /// The number of pages.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// The size of these pages in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.count().saturating_mul(PAGE)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// One more than the last page number; 0 for the empty set.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Runs of page numbers, in ascending order. No two are adjacent.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.runs.iter().cloned()
    }

    /// The run with this index, from 0.
    pub(crate) fn run(&self, number: usize) -> Option<Range<u64>> {
        self.runs.get(number).cloned()
    }

    /// The same runs, in bytes.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|run| run.start * PAGE..run.end * PAGE)
    }

    /// Adds a run of page numbers. Appending beyond the last run is fastest.
    pub fn insert_run(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|known| known.end < run.start);
        let after = first + self.runs[first..].partition_point(|known| known.start <= run.end);
        let touched = &self.runs[first..after];
        let start = touched.first().map_or(run.start, |known| known.start.min(run.start));
        let end = touched.last().map_or(run.end, |known| known.end.max(run.end));
        self.runs.splice(first..after, std::iter::once(start..end));
    }

    /// The pages in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = [self.runs.as_slice(), other.runs.as_slice()].concat();
        all.sort_by_key(|run| run.start);
        all.into_iter().collect()
    }

    /// The pages that are not in the other set.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut remaining = Self::default();
        let mut cuts = other.runs.iter().peekable();
        for run in &self.runs {
            let mut at = run.start;
            while let Some(cut) = cuts.peek().filter(|cut| cut.start < run.end) {
                remaining.insert_run(at..cut.start);
                at = at.max(cut.end);
                // It may also cut the next run.
                if cut.end > run.end {
                    break;
                }
                cuts.next();
            }
            remaining.insert_run(at..run.end);
        }
        remaining
    }

    /// The pages in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// The file format: a magic, the number of runs, then the first page and the page count of each run, all
    /// little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + self.runs.len() * RUN_BYTES);
        bytes.extend(MAGIC);
        bytes.extend((self.runs.len() as u64).to_le_bytes());
        for run in &self.runs {
            bytes.extend(run.start.to_le_bytes());
            bytes.extend((run.end - run.start).to_le_bytes());
        }
        bytes
    }

    /// Parses the file format from untrusted bytes. Every page number must be below `limit`.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Pages::to_bytes`] writes for a set below `limit`.
    pub fn from_bytes(bytes: &[u8], limit: u64) -> Result<Self, PagesError> {
        let short = PagesError::Length { bytes: bytes.len() };
        let body = bytes.strip_prefix(&MAGIC).ok_or(PagesError::Magic)?;
        let Some((count, body)) = body.split_first_chunk() else { return Err(short) };
        let named = u64::from_le_bytes(*count).checked_mul(RUN_BYTES as u64);
        if named != Some(body.len() as u64) {
            return Err(short);
        }
        // So the byte offset of no page can overflow.
        let limit = limit.min(u64::MAX / PAGE);
        let mut runs = Vec::with_capacity(body.len() / RUN_BYTES);
        let mut min_start = 0;
        for (number, pair) in body.as_chunks().0.iter().enumerate() {
            let run = parse_run(pair, number, min_start, limit)?;
            min_start = run.end + 1;
            runs.push(run);
        }
        Ok(Self { runs })
    }
}

/// Parses one run, which must begin at `min_start` or later and end at `limit` or before.
fn parse_run(
    pair: &[u8; RUN_BYTES],
    run: usize,
    min_start: u64,
    limit: u64,
) -> Result<Range<u64>, PagesError> {
    let pair = u128::from_le_bytes(*pair);
    let (start, length) = (pair as u64, (pair >> 64) as u64);
    let end = start.checked_add(length).filter(|end| length > 0 && *end <= limit);
    let end = end.ok_or(PagesError::Bounds { run })?;
    if start < min_start {
        return Err(PagesError::Order { run });
    }
    Ok(start..end)
}

impl From<Range<u64>> for Pages {
    fn from(run: Range<u64>) -> Self {
        std::iter::once(run).collect()
    }
}

impl FromIterator<Range<u64>> for Pages {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(runs: I) -> Self {
        let mut pages = Self::default();
        runs.into_iter().for_each(|run| pages.insert_run(run));
        pages
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(pages: &Pages) -> BTreeSet<u64> {
        pages.runs().flatten().collect()
    }

    fn some_pages() -> impl Strategy<Value = Pages> {
        let run = (0..400_u64, 0..24_u64).prop_map(|(start, length)| start..start + length);
        proptest::collection::vec(run, 0..24).prop_map(Pages::from_iter)
    }

    proptest! {
        #[test]
        fn runs_are_sorted_disjoint_and_complete(
            runs in proptest::collection::vec((0..400_u64, 0..24_u64), 0..24)
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(start, length)| start..start + length).collect();
            let pages: Pages = runs.iter().cloned().collect();
            prop_assert_eq!(numbers(&pages), runs.into_iter().flatten().collect());
            let listed: Vec<_> = pages.runs().collect();
            prop_assert!(listed.iter().all(|run| run.start < run.end));
            prop_assert!(listed.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(pages.count(), numbers(&pages).len() as u64);
            prop_assert_eq!(pages.end(), numbers(&pages).last().map_or(0, |last| last + 1));
        }

        #[test]
        fn set_operations_match_btreeset(one in some_pages(), other in some_pages()) {
            let (left, right) = (numbers(&one), numbers(&other));
            prop_assert_eq!(numbers(&one.union(&other)), &left | &right);
            prop_assert_eq!(numbers(&one.difference(&other)), &left - &right);
            prop_assert_eq!(numbers(&one.intersection(&other)), &left & &right);
            prop_assert_eq!(one.difference(&other).union(&one.intersection(&other)), one);
        }

        #[test]
        fn the_file_format_round_trips(pages in some_pages()) {
            let bytes = pages.to_bytes();
            prop_assert_eq!(Pages::from_bytes(&bytes, pages.end()), Ok(pages.clone()));
            if !pages.is_empty() {
                prop_assert!(Pages::from_bytes(&bytes, pages.end() - 1).is_err());
                prop_assert!(Pages::from_bytes(&bytes[..bytes.len() - 1], 1 << 20).is_err());
            }
        }

        #[test]
        fn parsed_lists_have_one_encoding(
            head in proptest::bool::weighted(0.9),
            words in proptest::collection::vec(0..9_u64, 0..9),
        ) {
            let mut bytes = if head { MAGIC.to_vec() } else { vec![0; 8] };
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            if let Ok(pages) = Pages::from_bytes(&bytes, 16) {
                prop_assert_eq!(pages.to_bytes(), bytes);
                prop_assert!(pages.end() <= 16);
            }
        }
    }

    fn file(runs: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((runs.len() as u64).to_le_bytes());
        bytes.extend(
            runs.iter().flat_map(|(start, length)| [start.to_le_bytes(), length.to_le_bytes()]).flatten(),
        );
        bytes
    }

    #[test]
    fn invalid_lists_are_refused_with_their_reason() {
        let read = |runs: &[(u64, u64)]| Pages::from_bytes(&file(runs), u64::MAX);
        assert_eq!(Pages::from_bytes(b"", 9), Err(PagesError::Magic));
        assert_eq!(Pages::from_bytes(&MAGIC, 9), Err(PagesError::Length { bytes: 8 }));
        assert_eq!(read(&[(0, 0)]), Err(PagesError::Bounds { run: 0 }));
        assert_eq!(read(&[(u64::MAX, 2)]), Err(PagesError::Bounds { run: 0 }));
        assert_eq!(read(&[(0, u64::MAX)]), Err(PagesError::Bounds { run: 0 }));
        assert_eq!(read(&[(5, 1), (1, 1)]), Err(PagesError::Order { run: 1 }));
        assert_eq!(read(&[(5, 5), (7, 1)]), Err(PagesError::Order { run: 1 }));
        assert_eq!(read(&[(5, 5), (10, 1)]), Err(PagesError::Order { run: 1 }));
        let mut many = file(&[]);
        many[8..16].copy_from_slice(&(u64::MAX / 4).to_le_bytes());
        assert_eq!(Pages::from_bytes(&many, 9), Err(PagesError::Length { bytes: 16 }));
    }
}
