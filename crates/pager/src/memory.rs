//! Which pages of guest memory a process has changed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::fence::{self, Found};
use crate::mapped::{Backing, Mapped};
use crate::region::{Region, Regions};

use crate::{PAGE, PagerError, Pages};

/// Runs per `PAGEMAP_SCAN` call.
const RUNS_AT_ONCE: usize = 4096;
/// Pagemap entries per read: those of 256 MiB, 512 KiB of entries.
const ENTRIES_AT_ONCE: u64 = 64 << 10;
const ENTRY_BYTES: u64 = 8;
/// Bits of a pagemap entry.
const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// How a process maps guest memory, which decides which pages count as changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
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
pub fn changed(pid: u32, regions: &[Region], held: Held) -> Result<Pages, PagerError> {
    Memory::open(pid, regions.to_vec(), held)?.changed()
}

/// The memory of a process, opened for repeated inspection. The open files refer to this process even if its
/// PID is reused.
#[derive(Debug)]
pub(crate) struct Memory {
    pid: u32,
    pagemap: File,
    regions: Regions,
    held: Held,
    /// Pages that count as changed even if the process has not written them.
    besides: Pages,
    /// The backing file of each region, where it is known to hold all pages.
    backings: Vec<Option<Backing>>,
}

impl Memory {
    pub(crate) fn open(pid: u32, regions: Vec<Region>, held: Held) -> Result<Self, PagerError> {
        let regions = Regions::judge(regions)?;
        let pagemap = open(pid, "pagemap", |path| File::open(path))?;
        let maps = open(pid, "maps", |path| std::fs::read_to_string(path))?;
        let mut memory =
            Self { pid, pagemap, regions, held, besides: Pages::default(), backings: Vec::new() };
        memory.still_there()?;
        for region in memory.regions.iter() {
            let parts = Mapped::of(&maps, region);
            let parts = parts.filter(|parts| held == Held::Shared || !parts.iter().any(Mapped::is_shared));
            let parts = parts.ok_or(PagerError::Unmapped { pid, address: region.address })?;
            memory.backings.push(Backing::find(pid, &parts, region));
        }
        Ok(memory)
    }

    /// Adds pages that count as changed.
    pub(crate) fn with(self, besides: Pages) -> Self {
        Self { besides, ..self }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The pages that the process has changed, and the divergent pages.
    pub(crate) fn changed(&self) -> Result<Pages, PagerError> {
        let own = self.held == Held::Private;
        let found = self.list(|region, backing| match backing {
            Some(backing) => backing.data(region),
            None => listed(&self.pagemap, region, own),
        });
        Ok(found?.union(&self.besides))
    }

    /// All mapped pages, private or not.
    pub(crate) fn present(&self) -> Result<Pages, PagerError> {
        self.list(|region, _| listed(&self.pagemap, region, false))
    }

    fn list(
        &self,
        look: impl Fn(&Region, Option<&Backing>) -> io::Result<Pages>,
    ) -> Result<Pages, PagerError> {
        let mut pages = Pages::default();
        for (region, backing) in self.regions.iter().zip(&self.backings) {
            let found = look(region, backing.as_ref());
            let found = found.map_err(|source| PagerError::List { pid: self.pid, source })?;
            found.runs().for_each(|run| pages.insert_run(run));
        }
        self.still_there()?;
        Ok(pages)
    }

    /// The memory of an exited process lists as empty, and its pagemap reads 0 bytes.
    pub(crate) fn still_there(&self) -> Result<(), PagerError> {
        match self.pagemap.read_at(&mut [0; ENTRY_BYTES as usize], 0) {
            Ok(0) => Err(PagerError::Gone { pid: self.pid }),
            Ok(_) => Ok(()),
            Err(source) => Err(PagerError::List { pid: self.pid, source }),
        }
    }
}

fn open<T>(pid: u32, file: &str, how: impl Fn(&str) -> io::Result<T>) -> Result<T, PagerError> {
    how(&format!("/proc/{pid}/{file}")).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => PagerError::Gone { pid },
        _ => PagerError::List { pid, source },
    })
}

fn listed(pagemap: &File, region: &Region, own: bool) -> io::Result<Pages> {
    match scanned(pagemap, region, own) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => read(pagemap, region, own),
        result => result,
    }
}

/// Lists runs with `PAGEMAP_SCAN` (Linux 6.7 and later), which skips unmapped ranges.
fn scanned(pagemap: &File, region: &Region, own: bool) -> io::Result<Pages> {
    let mut pages = Pages::default();
    let mut found = vec![Found::default(); RUNS_AT_ONCE];
    let Range { mut start, end } = region.addresses();
    while start < end {
        let (count, next) = fence::scan(pagemap, start..end, own, &mut found)?;
        for run in &found[..count] {
            pages.insert_run(number(region, run.start)..number(region, run.end));
        }
        start = next;
    }
    Ok(pages)
}

/// Reads one pagemap entry per page.
fn read(pagemap: &File, region: &Region, own: bool) -> io::Result<Pages> {
    let mut pages = Pages::default();
    let mut bytes = vec![0; (ENTRIES_AT_ONCE * ENTRY_BYTES) as usize];
    let mut address = region.address;
    while address < region.addresses().end {
        let entries = ((region.addresses().end - address) / PAGE).min(ENTRIES_AT_ONCE);
        let bytes = &mut bytes[..(entries * ENTRY_BYTES) as usize];
        pagemap.read_exact_at(bytes, address / PAGE * ENTRY_BYTES)?;
        let first = number(region, address);
        for (page, entry) in (first..).zip(bytes.as_chunks().0) {
            let entry = u64::from_le_bytes(*entry);
            if entry & PRESENT_OR_SWAPPED != 0 && !(own && entry & OF_A_FILE != 0) {
                pages.insert_run(page..page + 1);
            }
        }
        address += entries * PAGE;
    }
    Ok(pages)
}

/// The guest page number of an address.
fn number(region: &Region, address: u64) -> u64 {
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
    fn asleep() -> Child {
        let child = Command::new("sleep").arg("60").spawn().expect("spawned");
        let call = format!("/proc/{}/wchan", child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&call).is_ok_and(|call| !call.contains("nanosleep")) {
            assert!(std::time::Instant::now() < deadline, "the process does not sleep");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child
    }

    #[test]
    fn the_kernel_lists_what_the_page_table_says() {
        let mut child = asleep();
        let pagemap = File::open(format!("/proc/{}/pagemap", child.id())).expect("opened");
        let mut count = [0, 0];
        for region in regions(child.id()) {
            for own in [false, true] {
                let pages = read(&pagemap, &region, own).expect("read");
                match scanned(&pagemap, &region, own) {
                    Ok(scanned) => assert_eq!(scanned, pages, "{region:?}"),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}"),
                }
                count[usize::from(own)] += pages.count();
            }
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        assert!(0 < count[1] && count[1] < count[0], "{count:?}");
    }
}
