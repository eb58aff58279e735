//! Which pages of a memory file have data.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::{FileError, PAGE, Pages, sparse};

/// The pages of a file that are not holes, for a memory file that the VMM has written itself.
///
/// # Errors
/// When the file cannot be read.
pub fn data_pages(file: &Path) -> Result<Pages, FileError> {
    File::open(file).and_then(|open| sparse::data_pages(&open)).map_err(FileError::reading(file))
}

/// Whether files in this directory have holes exactly where no page was written. Otherwise [`data_pages`] also
/// lists pages that were never written: on filesystems with larger blocks (XFS, ZFS) or huge pages (tmpfs),
/// or without holes (FUSE, NFS).
///
/// # Errors
/// When no file can be created in the directory.
pub fn has_exact_holes(dir: &Path) -> io::Result<bool> {
    if fs::metadata(dir)?.blksize() > PAGE {
        return Ok(false);
    }
    // Two pages far apart: one within the first huge page, one beyond it.
    let probe = tempfile::tempfile_in(dir)?;
    probe.set_len(PROBE_PAGES * PAGE)?;
    for page in [1, PROBE_PAGES / 2 + 1] {
        probe.write_all_at(&[1; PAGE as usize], page * PAGE)?;
    }
    let found = sparse::data_pages(&probe)?;
    Ok(found.runs().eq([1..2, PROBE_PAGES / 2 + 1..PROBE_PAGES / 2 + 2]))
}

/// Two huge pages.
const PROBE_PAGES: u64 = 1024;

/// Punches holes for the pages of a file that hold only zeros: memory that the guest has not used yet, in a
/// file written by the VMM. On a filesystem without holes the file is left as it is.
///
/// # Errors
/// When the file cannot be read or changed.
pub fn punch_zeros(path: &Path) -> Result<(), FileError> {
    let file = File::options().read(true).write(true).open(path).map_err(FileError::reading(path))?;
    let zeros = zeros(&file).map_err(FileError::reading(path))?;
    for extent in zeros.extents() {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&file, flags, extent.start, extent.end - extent.start) {
            Err(Errno::OPNOTSUPP) => return Ok(()),
            punched => punched.map_err(io::Error::from).map_err(FileError::writing(path))?,
        }
    }
    Ok(())
}

/// The data pages of a file that hold only zeros.
fn zeros(file: &File) -> io::Result<Pages> {
    let mut zeros = Pages::default();
    sparse::each_piece(file, &sparse::data_pages(file)?, |offset, piece| {
        for (page, bytes) in (offset / PAGE..).zip(piece.chunks(PAGE as usize)) {
            if bytes.iter().all(|byte| *byte == 0) {
                zeros.insert_run(page..page + 1);
            }
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_holes_are_detected_and_no_file_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(has_exact_holes(dir.path()).expect("probed"), "tests run where blocks are pages");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
        assert!(has_exact_holes(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn pages_of_zeros_become_holes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("memory");
        let mut bytes = vec![0; 64 * PAGE as usize];
        bytes[5 * PAGE as usize + 7] = 1;
        bytes[9 * PAGE as usize..11 * PAGE as usize].fill(2);
        std::fs::write(&path, &bytes).expect("written");
        punch_zeros(&path).expect("punched");
        assert_eq!(std::fs::read(&path).expect("read"), bytes);
        assert_eq!(data_pages(&path).expect("read").runs().collect::<Vec<_>>(), [5..6, 9..11]);
        // A second time, with a page of zeros before the data.
        File::options().write(true).open(&path).expect("open").write_all_at(&[0; 4096], 0).expect("written");
        punch_zeros(&path).expect("punched");
        assert_eq!(data_pages(&path).expect("read").count(), 3);
    }
}
