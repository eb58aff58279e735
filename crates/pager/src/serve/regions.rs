//! The mapping between a clone's addresses and offsets in the snapshot's memory.

use std::ops::Range;

use serde::Deserialize;

use super::error::HandshakeError;
use crate::PAGE;

/// Regions per clone: a guest has one for each hole in its address space and one for each hot-plug memory
/// slot, a few dozen at most.
pub(super) const MOST_REGIONS: usize = 1024;
/// Pieces that `mremap` and `munmap` may split these into, so that a client cannot exhaust this process's
/// memory.
const MOST_PIECES: usize = 4 * MOST_REGIONS;
/// The huge page size that Firecracker supports.
pub(super) const HUGE: u64 = 2 << 20;
/// No process has addresses above this limit; sums of two such addresses do not overflow.
const ADDRESSES: u64 = 1 << 57;

/// A region as the client sends it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    /// Page size in bytes.
    page_size: Option<u64>,
    /// Also in bytes: the name in versions before 1.12, which others still send.
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
        self.at(&(start..(start / bytes + 1) * bytes))
    }

    /// Its first page.
    pub(super) fn first(&self) -> Self {
        self.upto(self.page)
    }

    /// Its first `bytes` bytes.
    pub(super) fn upto(&self, bytes: u64) -> Self {
        self.at(&(self.addresses.start..self.addresses.start.saturating_add(bytes)))
    }

    /// All but its first `bytes` bytes.
    pub(super) fn after(&self, bytes: u64) -> Self {
        self.at(&(self.addresses.start.saturating_add(bytes)..u64::MAX))
    }

    /// The part within these addresses.
    fn at(&self, addresses: &Range<u64>) -> Self {
        let (start, end) = (self.addresses.start.max(addresses.start), self.addresses.end.min(addresses.end));
        let offset = self.offset + start.saturating_sub(self.addresses.start);
        Self { addresses: start..end.max(start), offset, page: self.page }
    }

    /// The pages that hold these bytes of the memory.
    fn holding(&self, bytes: &Range<u64>) -> Self {
        let shift = |offset: u64| self.addresses.start + offset.saturating_sub(self.offset);
        let (start, end) = (bytes.start / self.page * self.page, bytes.end.next_multiple_of(self.page));
        self.at(&(shift(start)..shift(end)))
    }
}

/// All of a clone's memory: validated pieces, sorted by address, and disjoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<Piece>);

impl Layout {
    /// Validates regions of a memory of `memory` bytes.
    pub(super) fn judge(told: &[Told], memory: u64) -> Result<Self, HandshakeError> {
        if told.is_empty() {
            return Err(HandshakeError::NoRegions);
        }
        if told.len() > MOST_REGIONS {
            return Err(HandshakeError::ManyRegions { count: told.len(), most: MOST_REGIONS });
        }
        let pieces: Result<Vec<_>, _> = told.iter().map(|told| piece(told, memory)).collect();
        let mut pieces = pieces?;
        pieces.sort_by_key(|piece| piece.offset);
        apart(&pieces, Piece::bytes)?;
        pieces.sort_by_key(|piece| piece.addresses.start);
        apart(&pieces, |piece| piece.addresses.clone())?;
        Ok(Self(pieces))
    }

    /// The piece that contains an address.
    pub(super) fn find(&self, address: u64) -> Option<&Piece> {
        let after = self.0.partition_point(|piece| piece.addresses.start <= address);
        self.0[..after].last().filter(|piece| piece.addresses.contains(&address))
    }

    /// The pieces within these addresses.
    pub(super) fn at<'a>(&'a self, addresses: &'a Range<u64>) -> impl Iterator<Item = Piece> + 'a {
        let first = self.0.partition_point(|piece| piece.addresses.end <= addresses.start);
        let pieces = self.0[first..].iter().take_while(|piece| piece.addresses.start < addresses.end);
        pieces.map(|piece| piece.at(addresses))
    }

    /// The pieces that hold these bytes of the memory.
    pub(super) fn holding<'a>(&'a self, bytes: &'a Range<u64>) -> impl Iterator<Item = Piece> + 'a {
        self.0.iter().map(|piece| piece.holding(bytes)).filter(|piece| !piece.addresses.is_empty())
    }

    /// Removes the part within these addresses, and returns it.
    pub(super) fn cut(&mut self, addresses: &Range<u64>) -> Vec<Piece> {
        let taken: Vec<_> = self.at(addresses).collect();
        let outside = [0..addresses.start, addresses.end..u64::MAX];
        let left = self.0.iter().flat_map(|piece| outside.iter().map(|outside| piece.at(outside)));
        self.0 = left.filter(|piece| !piece.addresses.is_empty()).collect();
        taken
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
    pub(super) fn is_shattered(&self) -> bool {
        self.0.len() > MOST_PIECES
    }
}

fn piece(told: &Told, memory: u64) -> Result<Piece, HandshakeError> {
    let Told { base_host_virt_addr: address, size, offset, .. } = *told;
    let page = told.page_size.or(told.page_size_kib).unwrap_or(0);
    if ![PAGE, HUGE].contains(&page) {
        return Err(HandshakeError::PageSize { bytes: page });
    }
    let fits = [address, size, offset].iter().all(|bytes| bytes.is_multiple_of(page));
    if size == 0 || !fits || address >= ADDRESSES || size >= ADDRESSES {
        return Err(HandshakeError::Region { address, size, offset });
    }
    if offset.checked_add(size).is_none_or(|end| end > memory) {
        return Err(HandshakeError::Beyond { offset, size, memory });
    }
    Ok(Piece { addresses: address..address + size, offset, page })
}

fn apart(pieces: &[Piece], place: impl Fn(&Piece) -> Range<u64>) -> Result<(), HandshakeError> {
    let overlap = pieces.windows(2).find(|pair| place(&pair[0]).end > place(&pair[1]).start);
    overlap.map_or(Ok(()), |pair| {
        let [one, other] = [&pair[0], &pair[1]].map(|piece| piece.addresses.start);
        Err(HandshakeError::Overlap { one, other })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: u64, size: u64, offset: u64) -> Told {
        let [base_host_virt_addr, size, offset] = [address, size, offset].map(|pages| pages * PAGE);
        Told { base_host_virt_addr, size, offset, page_size: Some(PAGE), page_size_kib: None }
    }

    fn layout() -> Layout {
        Layout::judge(&[told(100, 10, 0), told(50, 20, 10)], 30 * PAGE).expect("sound")
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
        let held: Vec<_> = layout.holding(&(8 * PAGE..12 * PAGE)).collect();
        assert_eq!(pages(&Layout(held)), [[50, 10, 2], [108, 8, 2]]);
    }

    #[test]
    fn what_is_unmapped_is_gone_and_what_is_moved_is_elsewhere() {
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
    fn regions_that_are_none_are_refused_by_name() {
        let judge = |told: Vec<_>| Layout::judge(&told, 30 * PAGE).expect_err("refused");
        assert!(matches!(judge(vec![]), HandshakeError::NoRegions));
        assert!(matches!(judge(vec![told(1, 1, 0); MOST_REGIONS + 1]), HandshakeError::ManyRegions { .. }));
        assert!(matches!(judge(vec![told(1, 0, 0)]), HandshakeError::Region { .. }));
        assert!(matches!(judge(vec![told(1, 1, 30)]), HandshakeError::Beyond { .. }));
        assert!(matches!(judge(vec![told(u64::MAX / PAGE, 1, 0)]), HandshakeError::Region { .. }));
        assert!(matches!(judge(vec![told(1, 2, 0), told(2, 1, 5)]), HandshakeError::Overlap { .. }));
        assert!(matches!(judge(vec![told(1, 2, 0), told(9, 1, 1)]), HandshakeError::Overlap { .. }));
        let odd = Told { base_host_virt_addr: 1, ..told(0, 1, 0) };
        assert!(matches!(judge(vec![odd]), HandshakeError::Region { .. }));
        let huge = Told { page_size: Some(HUGE), ..told(512, 1, 0) };
        assert!(matches!(judge(vec![huge]), HandshakeError::Region { .. }));
        let unsaid = Told { page_size: None, ..told(1, 1, 0) };
        assert!(matches!(judge(vec![unsaid]), HandshakeError::PageSize { bytes: 0 }));
    }
}
