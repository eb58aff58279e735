//! Sparse files: finding their data and reading it in pieces.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::{PAGE, Pages};

/// Bytes per read.
pub(crate) const BUFFER: usize = 1 << 20;

/// Calls `visit` for each data extent within a byte range.
pub(crate) fn each_extent(
    file: &File,
    range: Range<u64>,
    mut visit: impl FnMut(Range<u64>),
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < range.end => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        visit(start..at.min(range.end));
    }
    Ok(())
}

/// The pages that overlap a byte range.
pub(crate) fn page_range(bytes: Range<u64>) -> Range<u64> {
    bytes.start / PAGE..bytes.end.div_ceil(PAGE)
}

/// The pages that have data in the file.
pub(crate) fn data_pages(file: &File) -> io::Result<Pages> {
    let mut found = Pages::default();
    let length = file.metadata()?.len();
    each_extent(file, 0..length, |extent| found.insert_run(page_range(extent)))?;
    Ok(found)
}

/// Calls `visit` with the bytes of these pages, in pieces of whole pages. Bytes beyond the end of the file
/// read as zeros.
pub(crate) fn each_piece<E: From<io::Error>>(
    file: &File,
    pages: &Pages,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; BUFFER];
    for run in pages.extents() {
        for offset in run.clone().step_by(BUFFER) {
            let length = BUFFER.min((run.end - offset) as usize);
            let piece = &mut buffer[..length];
            read_padded(file, piece, offset)?;
            visit(offset, piece)?;
        }
    }
    Ok(())
}

fn read_padded(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into[read..].fill(0);
    Ok(())
}
