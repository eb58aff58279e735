//! A process's memory mappings, from /proc/PID/maps.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use crate::Pages;
use crate::region::Region;
use crate::sparse;

/// One line of /proc/PID/maps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MapsEntry {
    addresses: Range<u64>,
    shared: bool,
    /// Its offset in the mapped file, in bytes.
    offset: u64,
    inode: Inode,
}

/// A file: its device number as in `fstat`, and its inode number, which is 0 for anonymous memory.
type Inode = (u64, u64);

impl MapsEntry {
    /// The mappings that cover the region, if all of it is mapped.
    pub(crate) fn covering(maps: &str, region: &Region) -> Option<Vec<Self>> {
        let Range { start, end } = region.addresses();
        let parts = maps.lines().filter_map(Self::parse);
        let parts: Vec<_> =
            parts.filter(|part| part.addresses.start < end && start < part.addresses.end).collect();
        let starts_before = parts.first()?.addresses.start <= start;
        let ends_after = parts.last()?.addresses.end >= end;
        let is_contiguous = parts.windows(2).all(|pair| pair[0].addresses.end == pair[1].addresses.start);
        (starts_before && ends_after && is_contiguous).then_some(parts)
    }

    /// Whether this is a shared mapping.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// `7f00-7fff rw-s 00000000 00:01 1234 /memfd:ram (deleted)`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let (start, end) = words.next()?.split_once('-')?;
        let shared = words.next()?.ends_with('s');
        let offset = hex(words.next()?)?;
        let (major, minor) = words.next()?.split_once(':')?;
        let device = rustix::fs::makedev(hex(major)?.try_into().ok()?, hex(minor)?.try_into().ok()?);
        let inode = words.next()?.parse().ok()?;
        Some(Self { addresses: hex(start)?..hex(end)?, shared, offset, inode: (device, inode) })
    }

    /// Whether it continues the mapping `before` in the same file.
    fn continues(&self, before: &Self) -> bool {
        let offset = before.offset + (before.addresses.end - before.addresses.start);
        (self.offset, self.inode, self.shared) == (offset, before.inode, before.shared)
    }
}

/// The file that backs a region as one shared mapping, opened through the process's descriptor.
///
/// For shared memory the page table is incomplete: it lists neither pages that are swapped out nor pages that
/// were written to the file in another way. The file has all of them.
#[derive(Debug)]
pub(crate) struct Backing {
    file: File,
    /// The region's offset in the file, in bytes.
    start: u64,
}

impl Backing {
    /// Finds the file if the process has it open. Otherwise the page table is used.
    pub(crate) fn find(pid: u32, parts: &[MapsEntry], region: &Region) -> Option<Self> {
        let first = parts.first()?;
        let is_contiguous = parts.windows(2).all(|pair| pair[1].continues(&pair[0]));
        if !first.shared || first.inode.1 == 0 || !is_contiguous {
            return None;
        }
        let file = open(pid, first.inode)?;
        Some(Self { file, start: first.offset + (region.address - first.addresses.start) })
    }

    /// The pages of the region that have data in the file.
    pub(crate) fn data(&self, region: &Region) -> io::Result<Pages> {
        let mut pages = Pages::default();
        let (start, end) = (self.start, self.start + region.length);
        sparse::each_extent(&self.file, start..end, |extent| {
            let page_offset = |at: u64| at - start + region.offset;
            pages.insert_run(sparse::page_range(page_offset(extent.start)..page_offset(extent.end)));
        })?;
        Ok(pages)
    }
}

/// Opens a file through another process's descriptor.
fn open(pid: u32, inode: Inode) -> Option<File> {
    let is_same =
        |path: &std::path::Path| fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == inode);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let path = open.map(|entry| entry.path()).find(|path| is_same(path))?;
    File::open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE;

    const MAPS: &str = "\
1000-3000 rw-p 00000000 00:00 0
3000-5000 rw-s 00002000 00:01 77                         /memfd:ram (deleted)
5000-8000 r--s 00004000 00:01 77                         /memfd:ram (deleted)
9000-a000 rw-p 00000000 fe:01 1234567                    /a name";

    fn parts(page: u64, pages: u64) -> Option<Vec<MapsEntry>> {
        MapsEntry::covering(MAPS, &Region { address: page * PAGE, offset: 0, length: pages * PAGE })
    }

    #[test]
    fn a_region_must_be_fully_mapped() {
        assert_eq!(parts(1, 2).map(|parts| parts.len()), Some(1));
        assert_eq!(parts(2, 5).map(|parts| parts.len()), Some(3));
        for (page, pages) in [(0, 2), (7, 2), (7, 3), (8, 1), (9, 2), (20, 1)] {
            assert_eq!(parts(page, pages), None, "{pages} from {page}");
        }
    }

    #[test]
    fn adjacent_parts_of_one_file_continue() {
        let parts = parts(1, 7).expect("mapped");
        assert!(parts[2].continues(&parts[1]) && !parts[1].continues(&parts[0]));
        assert_eq!((parts[1].is_shared(), parts[1].offset, parts[1].inode), (true, 0x2000, (1, 77)));
    }
}
