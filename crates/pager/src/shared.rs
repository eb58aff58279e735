//! The file behind a shared mapping, as a process has it open.
//!
//! The page table is not all of the truth about shared memory: it lists neither what is swapped out nor what came into
//! the file by another way. The file knows.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use crate::Pages;
use crate::region::Region;
use crate::sparse;

/// The file that a whole region is a shared mapping of.
#[derive(Debug)]
pub(crate) struct Backing {
    file: File,
    /// Where in the file the region begins, in bytes.
    start: u64,
}

impl Backing {
    /// Finds it if there is one and it is open in the process; else the page table must do.
    pub(crate) fn find(pid: u32, region: &Region) -> Option<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let mut lines = maps.lines().filter_map(Line::parse);
        let first = lines.find(|line| line.addresses.contains(&region.address))?;
        let start = first.offset + (region.address - first.addresses.start);
        let mut end = first.addresses.end;
        while end < region.addresses().end {
            let next = lines.next().filter(|next| next.goes_on(&first, end))?;
            end = next.addresses.end;
        }
        let file = open(pid, first.inode)?;
        Some(Self { file, start })
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

/// A line of /proc/PID/maps about a shared mapping of a file.
#[derive(Debug)]
struct Line {
    addresses: Range<u64>,
    offset: u64,
    inode: Inode,
}

/// A file: the device's number as fstat gives it, and the inode's.
type Inode = (u64, u64);

impl Line {
    /// `7f00-7fff rw-s 00000000 00:01 1234 /memfd:ram (deleted)`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let (start, end) = words.next()?.split_once('-')?;
        let shared = words.next()?.ends_with('s');
        let offset = hex(words.next()?)?;
        let (major, minor) = words.next()?.split_once(':')?;
        let device = rustix::fs::makedev(hex(major)?.try_into().ok()?, hex(minor)?.try_into().ok()?);
        let inode = words.next()?.parse().ok().filter(|inode| shared && *inode != 0)?;
        Some(Self { addresses: hex(start)?..hex(end)?, offset, inode: (device, inode) })
    }

    /// Whether it maps the same file, right after what another line has mapped up to an address.
    fn goes_on(&self, first: &Self, end: u64) -> bool {
        let offset = first.offset + (end - first.addresses.start);
        (self.addresses.start, self.offset, self.inode) == (end, offset, first.inode)
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
