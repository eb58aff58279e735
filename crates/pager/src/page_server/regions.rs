//! The mapping between a clone's addresses and offsets in the snapshot's memory.

use std::ops::Range;

use serde::Deserialize;

use super::error::HandshakeError;
use crate::PAGE;

/// Regions per clone: a guest has one for each hole in its address space and one for each hot-plug memory
/// slot, a few dozen at most.
pub(super) const MAX_REGIONS: usize = 1024;
/// Pieces that `mremap` and `munmap` may split these into, so that a client cannot exhaust this process's
/// memory.
const MAX_PIECES: usize = 4 * MAX_REGIONS;
/// The huge page size that Firecracker supports.
pub(super) const HUGE_PAGE: u64 = 2 << 20;
/// No process has addresses above this limit; sums of two such addresses do not overflow.
const ADDRESS_LIMIT: u64 = 1 << 57;

/// A region as the client sends it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RegionMapping {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    /// Page size in bytes.
    page_size: Option<u64>,
    /// The page size in bytes, too: Firecracker before 1.12 sends this name, and some VMMs still do.
    page_size_kib: Option<u64>,
}

/// A contiguous range of addresses with one mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) addresses: Range<u64>,
    /// Its offset in the memory.
    pub(super) offset: u64,
    /// Its page size in bytes: a multiple of [`PAGE`].
    pub(super) page: u64,
}

impl Piece {
    /// Its byte range in the memory.
    pub(super) fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + (self.addresses.end - self.addresses.start)
    }

    /// The page at an address, and those after it up to a multiple of `bytes`.
    pub(super) fn block(&self, address: u64, bytes: u64) -> Self {
        let start = address / self.page * self.page;
        let bytes = bytes.max(self.page);
        self.within(&(start..(start / bytes + 1) * bytes))
    }

    /// Its first page.
    pub(super) fn first(&self) -> Self {
        self.prefix(self.page)
    }

    /// Its first `bytes` bytes.
    pub(super) fn prefix(&self, bytes: u64) -> Self {
        self.within(&(self.addresses.start..self.addresses.start.saturating_add(bytes)))
    }

    /// All but its first `bytes` bytes.
    pub(super) fn skip(&self, bytes: u64) -> Self {
        self.within(&(self.addresses.start.saturating_add(bytes)..u64::MAX))
    }

    /// The part within these addresses.
    fn within(&self, addresses: &Range<u64>) -> Self {
        let (start, end) = (self.addresses.start.max(addresses.start), self.addresses.end.min(addresses.end));
        let offset = self.offset + start.saturating_sub(self.addresses.start);
        Self { addresses: start..end.max(start), offset, page: self.page }
    }

    /// The pages that hold these bytes of the memory.
    fn holding(&self, bytes: &Range<u64>) -> Self {
        let shift = |offset: u64| self.addresses.start + offset.saturating_sub(self.offset);
        let (start, end) = (bytes.start / self.page * self.page, bytes.end.next_multiple_of(self.page));
        self.within(&(shift(start)..shift(end)))
    }
}

/// All of a clone's memory: validated pieces, sorted by address, and disjoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<Piece>);

impl Layout {
    /// Validates regions of a memory of `memory` bytes.
    pub(super) fn validate(regions: &[RegionMapping], memory: u64) -> Result<Self, HandshakeError> {
        if regions.is_empty() {
            return Err(HandshakeError::NoRegions);
        }
        if regions.len() > MAX_REGIONS {
            return Err(HandshakeError::TooManyRegions { count: regions.len(), max: MAX_REGIONS });
        }
        let pieces: Result<Vec<_>, _> = regions.iter().map(|region| parse_piece(region, memory)).collect();
        let mut pieces = pieces?;
        pieces.sort_by_key(|piece| piece.offset);
        check_disjoint(&pieces, Piece::bytes)?;
        pieces.sort_by_key(|piece| piece.addresses.start);
        check_disjoint(&pieces, |piece| piece.addresses.clone())?;
        Ok(Self(pieces))
    }

    /// The piece that contains an address.
    pub(super) fn find(&self, address: u64) -> Option<&Piece> {
        let after = self.0.partition_point(|piece| piece.addresses.start <= address);
        self.0[..after].last().filter(|piece| piece.addresses.contains(&address))
    }

    /// The pieces within these addresses.
    pub(super) fn within<'a>(&'a self, addresses: &'a Range<u64>) -> impl Iterator<Item = Piece> + 'a {
        let first = self.0.partition_point(|piece| piece.addresses.end <= addresses.start);
        let pieces = self.0[first..].iter().take_while(|piece| piece.addresses.start < addresses.end);
        pieces.map(|piece| piece.within(addresses))
    }

    /// The pieces that hold these bytes of the memory.
    pub(super) fn holding<'a>(&'a self, bytes: &'a Range<u64>) -> impl Iterator<Item = Piece> + 'a {
        self.0.iter().map(|piece| piece.holding(bytes)).filter(|piece| !piece.addresses.is_empty())
    }

    /// Removes the part within these addresses, and returns it.
    pub(super) fn cut(&mut self, addresses: &Range<u64>) -> Vec<Piece> {
        let removed: Vec<_> = self.within(addresses).collect();
        let outside = [0..addresses.start, addresses.end..u64::MAX];
        let rest = self.0.iter().flat_map(|piece| outside.iter().map(|outside| piece.within(outside)));
        self.0 = rest.filter(|piece| !piece.addresses.is_empty()).collect();
        removed
    }

    /// Moves the part within these addresses to another address.
    pub(super) fn shift(&mut self, from: &Range<u64>, to: u64) {
        let mut moved = self.cut(from);
        for piece in &mut moved {
            let Range { start, end } = piece.addresses;
            let shift = |address: u64| (address - from.start).saturating_add(to);
            piece.addresses = shift(start)..shift(end);
            self.cut(&piece.addresses);
        }
        self.0.append(&mut moved);
        self.0.sort_by_key(|piece| piece.addresses.start);
    }

    /// Whether it has been split into more pieces than allowed.
    pub(super) fn has_too_many_pieces(&self) -> bool {
        self.0.len() > MAX_PIECES
    }
}

fn parse_piece(region: &RegionMapping, memory: u64) -> Result<Piece, HandshakeError> {
    let RegionMapping { base_host_virt_addr: address, size, offset, .. } = *region;
    let page = region.page_size.or(region.page_size_kib).unwrap_or(0);
    if ![PAGE, HUGE_PAGE].contains(&page) {
        return Err(HandshakeError::PageSize { bytes: page });
    }
    let fits = [address, size, offset].iter().all(|bytes| bytes.is_multiple_of(page));
    if size == 0 || !fits || address >= ADDRESS_LIMIT || size >= ADDRESS_LIMIT {
        return Err(HandshakeError::Region { address, size, offset });
    }
    if offset.checked_add(size).is_none_or(|end| end > memory) {
        return Err(HandshakeError::OutOfBounds { offset, size, memory });
    }
    Ok(Piece { addresses: address..address + size, offset, page })
}

fn check_disjoint(pieces: &[Piece], range: impl Fn(&Piece) -> Range<u64>) -> Result<(), HandshakeError> {
    let overlap = pieces.windows(2).find(|pair| range(&pair[0]).end > range(&pair[1]).start);
    overlap.map_or(Ok(()), |pair| {
        let [one, other] = [&pair[0], &pair[1]].map(|piece| piece.addresses.start);
        Err(HandshakeError::Overlap { one, other })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(address: u64, size: u64, offset: u64) -> RegionMapping {
        let [base_host_virt_addr, size, offset] = [address, size, offset].map(|pages| pages * PAGE);
        RegionMapping { base_host_virt_addr, size, offset, page_size: Some(PAGE), page_size_kib: None }
    }

    fn layout() -> Layout {
        Layout::validate(&[region(100, 10, 0), region(50, 20, 10)], 30 * PAGE).expect("valid")
    }

    /// Address, offset and length, in pages.
    fn pages(layout: &Layout) -> Vec<[u64; 3]> {
        let pages = |piece: &Piece| {
            let Range { start, end } = piece.addresses;
            [start, piece.offset, end - start].map(|bytes| bytes / PAGE)
        };
        layout.0.iter().map(pages).collect()
    }

    #[test]
    fn an_address_is_found_in_its_piece() {
        let layout = layout();
        let offset = |page| layout.find(page * PAGE).map(|piece| piece.offset / PAGE);
        assert_eq!(
            [49, 50, 69, 70, 100, 109, 110].map(offset),
            [None, Some(10), Some(10), None, Some(0), Some(0), None]
        );
        let found: Vec<_> = layout.holding(&(8 * PAGE..12 * PAGE)).collect();
        assert_eq!(pages(&Layout(found)), [[50, 10, 2], [108, 8, 2]]);
    }

    #[test]
    fn unmapped_and_moved_memory_is_tracked() {
        let mut layout = layout();
        layout.cut(&(60 * PAGE..105 * PAGE));
        assert_eq!(pages(&layout), [[50, 10, 10], [105, 5, 5]]);
        layout.shift(&(52 * PAGE..54 * PAGE), 200 * PAGE);
        assert_eq!(pages(&layout), [[50, 10, 2], [54, 14, 6], [105, 5, 5], [200, 12, 2]]);
        layout.shift(&(200 * PAGE..202 * PAGE), 104 * PAGE);
        assert_eq!(pages(&layout), [[50, 10, 2], [54, 14, 6], [104, 12, 2], [106, 6, 4]]);
        layout.cut(&(0..u64::MAX));
        assert_eq!(pages(&layout), [[0; 3]; 0]);
    }

    #[test]
    fn invalid_regions_are_refused_by_name() {
        let validate = |regions: Vec<_>| Layout::validate(&regions, 30 * PAGE).expect_err("refused");
        assert!(matches!(validate(vec![]), HandshakeError::NoRegions));
        assert!(matches!(
            validate(vec![region(1, 1, 0); MAX_REGIONS + 1]),
            HandshakeError::TooManyRegions { .. }
        ));
        assert!(matches!(validate(vec![region(1, 0, 0)]), HandshakeError::Region { .. }));
        assert!(matches!(validate(vec![region(1, 1, 30)]), HandshakeError::OutOfBounds { .. }));
        assert!(matches!(validate(vec![region(u64::MAX / PAGE, 1, 0)]), HandshakeError::Region { .. }));
        assert!(matches!(validate(vec![region(1, 2, 0), region(2, 1, 5)]), HandshakeError::Overlap { .. }));
        assert!(matches!(validate(vec![region(1, 2, 0), region(9, 1, 1)]), HandshakeError::Overlap { .. }));
        let odd = RegionMapping { base_host_virt_addr: 1, ..region(0, 1, 0) };
        assert!(matches!(validate(vec![odd]), HandshakeError::Region { .. }));
        let huge = RegionMapping { page_size: Some(HUGE_PAGE), ..region(512, 1, 0) };
        assert!(matches!(validate(vec![huge]), HandshakeError::Region { .. }));
        let without_page_size = RegionMapping { page_size: None, ..region(1, 1, 0) };
        assert!(matches!(validate(vec![without_page_size]), HandshakeError::PageSize { bytes: 0 }));
    }
}
