//! Where guest memory is mapped in the VMM process.

use std::ops::Range;

use crate::{PAGE, PagerError, Pages};

/// A part of guest memory, mapped in the VMM process. All three fields are in bytes and multiples of
/// [`PAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its address in that process.
    pub address: u64,
    /// Its offset in guest memory, which is also its offset in memory files.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

impl Region {
    fn is_valid(&self) -> bool {
        let aligned = [self.address, self.offset, self.length].iter().all(|bytes| bytes.is_multiple_of(PAGE));
        let ends = [self.address, self.offset].map(|start| start.checked_add(self.length));
        aligned && self.length > 0 && ends.iter().all(|end| end.is_some_and(|end| end <= i64::MAX as u64))
    }

    /// The address range in the process.
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.address..self.address + self.length
    }

    /// The byte range in guest memory.
    pub(crate) fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

/// Validated regions: page-aligned, sorted by offset, and disjoint.
#[derive(Clone, Debug)]
pub(crate) struct Regions(Vec<Region>);

/// Bytes that are contiguous both in the process and in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Regions {
    pub(crate) fn validate(mut regions: Vec<Region>) -> Result<Self, PagerError> {
        let fail = |region: &Region| PagerError::Region { offset: region.offset, length: region.length };
        if let Some(region) = regions.iter().find(|region| !region.is_valid()) {
            return Err(fail(region));
        }
        regions.sort_by_key(|region| region.offset);
        if let Some(pair) = regions.windows(2).find(|pair| pair[0].bytes().end > pair[1].offset) {
            return Err(fail(&pair[1]));
        }
        if regions.is_empty() {
            return Err(PagerError::Region { offset: 0, length: 0 });
        }
        Ok(Self(regions))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// The end of the last region, in bytes of guest memory.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |region| region.bytes().end)
    }

    /// The locations of these pages, in pieces of at most `max` bytes. Pages outside all regions are left
    /// out.
    pub(crate) fn pieces(&self, pages: &Pages, max: u64) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(pages.runs().len());
        for region in &self.0 {
            for run in pages.extents() {
                let (start, end) = (run.start.max(region.offset), run.end.min(region.bytes().end));
                let starts = (start..end).step_by(usize::try_from(max).unwrap_or(usize::MAX));
                pieces.extend(starts.map(|offset| Piece {
                    address: region.address + (offset - region.offset),
                    offset,
                    length: max.min(end - offset),
                }));
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(address: u64, offset: u64, length: u64) -> Region {
        Region { address: address * PAGE, offset: offset * PAGE, length: length * PAGE }
    }

    #[test]
    fn pieces_follow_the_regions() {
        let regions = Regions::validate(vec![region(900, 4, 4), region(500, 0, 4)]).expect("valid");
        let pages: Pages = [1..6, 7..20].into_iter().collect();
        let pieces = regions.pieces(&pages, 2 * PAGE);
        let pages: Vec<_> = pieces
            .iter()
            .map(|piece| [piece.address, piece.offset, piece.length].map(|bytes| bytes / PAGE))
            .collect();
        assert_eq!(pages, [[501, 1, 2], [503, 3, 1], [900, 4, 2], [903, 7, 1]]);
    }

    #[test]
    fn invalid_regions_are_refused() {
        let odd = Region { address: 1, offset: 0, length: PAGE };
        let far = Region { address: 0, offset: u64::MAX - PAGE + 1, length: PAGE };
        for bad in
            [vec![], vec![odd], vec![far], vec![region(1, 1, 0)], vec![region(0, 0, 2), region(9, 1, 1)]]
        {
            assert!(matches!(Regions::validate(bad), Err(PagerError::Region { .. })));
        }
    }
}
