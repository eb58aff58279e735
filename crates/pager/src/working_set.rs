//! Recording which pages a guest needs first, and prefetching them.

use std::fs::File;
use std::path::Path;

use rustix::fs::Advice;

use crate::memory::{MappingKind, ProcessMemory};
use crate::{FileError, PagerError, Pages, Region};

/// The pages that the process has mapped so far, private or from a file. The kernel also maps pages around
/// each touched page of a file, so these are more than were used.
///
/// # Errors
/// As [`changed_pages`](crate::changed_pages).
pub fn record(pid: u32, regions: &[Region]) -> Result<Pages, PagerError> {
    ProcessMemory::open(pid, regions.to_vec(), MappingKind::Shared)?.mapped_pages()
}

/// Starts reading these pages of a file into the page cache, without waiting.
///
/// # Errors
/// When the file cannot be opened or the advice fails.
pub fn prefetch(file: &Path, pages: &Pages) -> Result<(), FileError> {
    let open = File::open(file).map_err(FileError::reading(file))?;
    for run in pages.extents() {
        let length = std::num::NonZeroU64::new(run.end - run.start);
        let advised = rustix::fs::fadvise(&open, run.start, length, Advice::WillNeed);
        advised.map_err(|error| FileError::reading(file)(error.into()))?;
    }
    Ok(())
}
