//! What a process has mapped where, by /proc/PID/maps.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use crate::Pages;
use crate::region::Region;
use crate::sparse;

/// A stretch of addresses that are mapped alike.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    addresses: Range<u64>,
    shared: bool,
    /// Where it begins in its file, in bytes.
    offset: u64,
    inode: Inode,
}

/// A file: the device's number as fstat gives it, and the inode's, which is 0 where there is no file.
type Inode = (u64, u64);

impl Mapped {
    /// What a whole region is mapped as, if all of it is mapped.
    pub(crate) fn of(maps: &str, region: &Region) -> Option<Vec<Self>> {
        let Range { start, end } = region.addresses();
        let parts = maps.lines().filter_map(Self::parse);
        let parts: Vec<_> =
            parts.filter(|part| part.addresses.start < end && start < part.addresses.end).collect();
        let begins = parts.first()?.addresses.start <= start;
        let ends = parts.last()?.addresses.end >= end;
        let whole = parts.windows(2).all(|pair| pair[0].addresses.end == pair[1].addresses.start);
        (begins && ends && whole).then_some(parts)
    }

    /// Whether writing to it changes what others see.
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

    /// Whether it maps the same file, and goes on where another part of the file ends.
    fn goes_on(&self, before: &Self) -> bool {
        let offset = before.offset + (before.addresses.end - before.addresses.start);
        (self.offset, self.inode, self.shared) == (offset, before.inode, before.shared)
    }
}

/// The file that a whole region is a shared mapping of, as the process has it open.
///
/// The page table is not all of the truth about shared memory: it lists neither what is swapped out nor what came into
/// the file by another way. The file knows.
#[derive(Debug)]
pub(crate) struct Backing {
    file: File,
    /// Where in the file the region begins, in bytes.
    start: u64,
}

impl Backing {
    /// Finds it if there is one and it is open in the process; else the page table must do.
    pub(crate) fn find(pid: u32, parts: &[Mapped], region: &Region) -> Option<Self> {
        let first = parts.first()?;
        let is_one = parts.windows(2).all(|pair| pair[1].goes_on(&pair[0]));
        if !first.shared || first.inode.1 == 0 || !is_one {
            return None;
        }
        let file = open(pid, first.inode)?;
        Some(Self { file, start: first.offset + (region.address - first.addresses.start) })
    }

    /// The pages of the region that the file has data for.
    pub(crate) fn data(&self, region: &Region) -> io::Result<Pages> {
        let mut pages = Pages::default();
        let (start, end) = (self.start, self.start + region.length);
        sparse::each_extent(&self.file, start..end, |extent| {
            let shift = |at: u64| at - start + region.offset;
            pages.insert_run(sparse::pages(shift(extent.start)..shift(extent.end)));
        })?;
        Ok(pages)
    }
}

/// Opens a file by way of a process that has it open.
fn open(pid: u32, inode: Inode) -> Option<File> {
    let known =
        |path: &std::path::Path| fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == inode);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let path = open.map(|entry| entry.path()).find(|path| known(path))?;
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

    fn parts(page: u64, pages: u64) -> Option<Vec<Mapped>> {
        Mapped::of(MAPS, &Region { address: page * PAGE, offset: 0, length: pages * PAGE })
    }

    #[test]
    fn a_region_is_mapped_whole_or_not_at_all() {
        assert_eq!(parts(1, 2).map(|parts| parts.len()), Some(1));
        assert_eq!(parts(2, 5).map(|parts| parts.len()), Some(3));
        for (page, pages) in [(0, 2), (7, 2), (7, 3), (8, 1), (9, 2), (20, 1)] {
            assert_eq!(parts(page, pages), None, "{pages} from {page}");
        }
    }

    #[test]
    fn parts_of_one_file_go_on() {
        let parts = parts(1, 7).expect("mapped");
        assert!(parts[2].goes_on(&parts[1]) && !parts[1].goes_on(&parts[0]));
        assert_eq!((parts[1].is_shared(), parts[1].offset, parts[1].inode), (true, 0x2000, (1, 77)));
    }
}
