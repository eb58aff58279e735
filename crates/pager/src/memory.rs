//! Which pages of guest memory a process has changed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::fence::{self, PageRegion};
use crate::maps::{Backing, MapsEntry};
use crate::region::{Region, Regions};

use crate::{PAGE, PagerError, Pages};

/// Runs per `PAGEMAP_SCAN` call.
const RUNS_AT_ONCE: usize = 4096;
/// Pagemap entries per read: those of 256 MiB, 512 KiB of entries.
const ENTRIES_AT_ONCE: u64 = 64 << 10;
const ENTRY_BYTES: u64 = 8;
/// Bits of a pagemap entry.
const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;

/// How a process maps guest memory, which decides which pages count as changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingKind {
    /// A private mapping of a file, which others may map too: the pages copied on write count as changed.
    Private,
    /// A shared mapping of the process's own file, or anonymous memory: all pages that exist count as
    /// changed.
    Shared,
}

/// The pages that a process has changed, including those that are swapped out. Page numbers are counted in
/// guest memory. The caller must be root or run as the same user.
///
/// # Errors
/// When a region is invalid or not mapped in this way, the process has exited, or the caller may not inspect
/// it.
pub fn changed_pages(pid: u32, regions: &[Region], mapping_kind: MappingKind) -> Result<Pages, PagerError> {
    ProcessMemory::open(pid, regions.to_vec(), mapping_kind)?.changed_pages()
}

/// The memory of a process, opened for repeated inspection. The open files refer to this process even if its
/// PID is reused.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    pid: u32,
    pagemap: File,
    regions: Regions,
    mapping_kind: MappingKind,
    /// Pages that count as changed even if the process has not written them.
    divergent_pages: Pages,
    /// The backing file of each region, where it is known to hold all pages.
    backings: Vec<Option<Backing>>,
}

impl ProcessMemory {
    pub(crate) fn open(
        pid: u32,
        regions: Vec<Region>,
        mapping_kind: MappingKind,
    ) -> Result<Self, PagerError> {
        let regions = Regions::validate(regions)?;
        let pagemap = open_proc_file(pid, "pagemap", |path| File::open(path))?;
        let maps = open_proc_file(pid, "maps", |path| std::fs::read_to_string(path))?;
        let mut memory = Self {
            pid,
            pagemap,
            regions,
            mapping_kind,
            divergent_pages: Pages::default(),
            backings: Vec::new(),
        };
        memory.check_alive()?;
        for region in memory.regions.iter() {
            let parts = MapsEntry::covering(&maps, region);
            let parts = parts.filter(|parts| {
                mapping_kind == MappingKind::Shared || !parts.iter().any(MapsEntry::is_shared)
            });
            let parts = parts.ok_or(PagerError::Unmapped { pid, address: region.address })?;
            memory.backings.push(Backing::find(pid, &parts, region));
        }
        Ok(memory)
    }

    /// Adds pages that count as changed.
    pub(crate) fn with_divergent_pages(self, divergent_pages: Pages) -> Self {
        Self { divergent_pages, ..self }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The pages that the process has changed, and the divergent pages.
    pub(crate) fn changed_pages(&self) -> Result<Pages, PagerError> {
        let exclude_file = self.mapping_kind == MappingKind::Private;
        let found = self.list(|region, backing| match backing {
            Some(backing) => backing.data(region),
            None => list_pages(&self.pagemap, region, exclude_file),
        });
        Ok(found?.union(&self.divergent_pages))
    }

    /// All mapped pages, private or not.
    pub(crate) fn mapped_pages(&self) -> Result<Pages, PagerError> {
        self.list(|region, _| list_pages(&self.pagemap, region, false))
    }

    fn list(
        &self,
        list_region: impl Fn(&Region, Option<&Backing>) -> io::Result<Pages>,
    ) -> Result<Pages, PagerError> {
        let mut pages = Pages::default();
        for (region, backing) in self.regions.iter().zip(&self.backings) {
            let found = list_region(region, backing.as_ref());
            let found = found.map_err(|source| PagerError::List { pid: self.pid, source })?;
            found.runs().for_each(|run| pages.insert_run(run));
        }
        self.check_alive()?;
        Ok(pages)
    }

    /// The memory of an exited process lists as empty, and its pagemap reads 0 bytes.
    pub(crate) fn check_alive(&self) -> Result<(), PagerError> {
        match self.pagemap.read_at(&mut [0; ENTRY_BYTES as usize], 0) {
            Ok(0) => Err(PagerError::Exited { pid: self.pid }),
            Ok(_) => Ok(()),
            Err(source) => Err(PagerError::List { pid: self.pid, source }),
        }
    }
}

fn open_proc_file<T>(pid: u32, file: &str, open: impl Fn(&str) -> io::Result<T>) -> Result<T, PagerError> {
    open(&format!("/proc/{pid}/{file}")).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => PagerError::Exited { pid },
        _ => PagerError::List { pid, source },
    })
}

fn list_pages(pagemap: &File, region: &Region, exclude_file: bool) -> io::Result<Pages> {
    match scan_pagemap(pagemap, region, exclude_file) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
            read_pagemap(pagemap, region, exclude_file)
        }
        result => result,
    }
}

/// Lists runs with `PAGEMAP_SCAN` (Linux 6.7 and later), which skips unmapped ranges.
fn scan_pagemap(pagemap: &File, region: &Region, exclude_file: bool) -> io::Result<Pages> {
    let mut pages = Pages::default();
    let mut found = vec![PageRegion::default(); RUNS_AT_ONCE];
    let Range { mut start, end } = region.addresses();
    while start < end {
        let (count, next) = fence::scan(pagemap, start..end, exclude_file, &mut found)?;
        for run in &found[..count] {
            pages.insert_run(page_number(region, run.start)..page_number(region, run.end));
        }
        start = next;
    }
    Ok(pages)
}

/// Reads one pagemap entry per page.
fn read_pagemap(pagemap: &File, region: &Region, exclude_file: bool) -> io::Result<Pages> {
    let mut pages = Pages::default();
    let mut bytes = vec![0; (ENTRIES_AT_ONCE * ENTRY_BYTES) as usize];
    let mut address = region.address;
    while address < region.addresses().end {
        let entries = ((region.addresses().end - address) / PAGE).min(ENTRIES_AT_ONCE);
        let bytes = &mut bytes[..(entries * ENTRY_BYTES) as usize];
        pagemap.read_exact_at(bytes, address / PAGE * ENTRY_BYTES)?;
        let first = page_number(region, address);
        for (page, entry) in (first..).zip(bytes.as_chunks().0) {
            let entry = u64::from_le_bytes(*entry);
            if entry & PRESENT_OR_SWAPPED != 0 && !(exclude_file && entry & FILE_OR_SHARED != 0) {
                pages.insert_run(page..page + 1);
            }
        }
        address += entries * PAGE;
    }
    Ok(pages)
}

/// The guest page number of an address.
fn page_number(region: &Region, address: u64) -> u64 {
    (address - region.address + region.offset) / PAGE
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// All mappings of a process except the kernel's.
    fn regions(pid: u32) -> Vec<Region> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("read");
        let parse = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16));
            let (start, end) = (start.ok()?, end.ok()?);
            (end < 1 << 47).then_some(Region { address: start, offset: 0, length: end - start })
        };
        maps.lines().filter_map(parse).collect()
    }

    /// A sleeping process, with mapped files and memory of its own.
    fn spawn_sleeping() -> Child {
        let child = Command::new("sleep").arg("60").spawn().expect("spawned");
        let wchan = format!("/proc/{}/wchan", child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&wchan).is_ok_and(|call| !call.contains("nanosleep")) {
            assert!(std::time::Instant::now() < deadline, "the process does not sleep");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child
    }

    #[test]
    fn pagemap_scan_and_pagemap_entries_agree() {
        let mut child = spawn_sleeping();
        let pagemap = File::open(format!("/proc/{}/pagemap", child.id())).expect("opened");
        let mut count = [0, 0];
        for region in regions(child.id()) {
            for exclude_file in [false, true] {
                let pages = read_pagemap(&pagemap, &region, exclude_file).expect("read");
                match scan_pagemap(&pagemap, &region, exclude_file) {
                    Ok(scanned) => assert_eq!(scanned, pages, "{region:?}"),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}"),
                }
                count[usize::from(exclude_file)] += pages.count();
            }
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        assert!(0 < count[1] && count[1] < count[0], "{count:?}");
    }
}
