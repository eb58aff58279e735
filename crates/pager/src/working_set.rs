//! Which pages a guest needs first, and having them at hand.

use std::fs::File;
use std::path::Path;

use rustix::fs::Advice;

use crate::memory::{Held, Memory};
use crate::{FileError, PagerError, Pages, Region};

/// The pages that the process has mapped by now, whether its own or a file's. The kernel maps some pages round each
/// one of a file that is touched, so these are more than were used.
///
/// # Errors
/// As [`changed`](crate::changed).
pub fn record(pid: u32, regions: &[Region]) -> Result<Pages, PagerError> {
    Memory::open(pid, regions.to_vec(), Held::Shared)?.present()
}

/// Has the kernel begin to read these pages of a file; does not wait for them.
///
/// # Errors
/// When the file cannot be opened or read ahead.
pub fn prefetch(file: &Path, pages: &Pages) -> Result<(), FileError> {
    let open = File::open(file).map_err(FileError::reading(file))?;
    for run in pages.extents() {
        let length = std::num::NonZeroU64::new(run.end - run.start);
        let advised = rustix::fs::fadvise(&open, run.start, length, Advice::WillNeed);
        advised.map_err(|error| FileError::reading(file)(error.into()))?;
    }
    Ok(())
}
