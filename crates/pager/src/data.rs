//! Which pages a file of memory has data for.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::{FileError, PAGE, Pages, sparse};

/// The pages of a file that are no holes: what a monitor has saved of a guest's memory by itself.
///
/// # Errors
/// When the file cannot be read.
pub fn data(file: &Path) -> Result<Pages, FileError> {
    File::open(file).and_then(|open| sparse::data(&open)).map_err(FileError::reading(file))
}

/// Makes holes of the pages of a file that hold only zeros: memory that a guest has not used yet, as a monitor saves it. Where
/// the filesystem has no holes the file stays as it is.
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

/// The pages of a file's data that hold only zeros.
fn zeros(file: &File) -> io::Result<Pages> {
    let mut zeros = Pages::default();
    sparse::each_piece(file, &sparse::data(file)?, |offset, piece| {
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
    use std::os::unix::fs::FileExt;

    use super::*;

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
        assert_eq!(data(&path).expect("read").runs().collect::<Vec<_>>(), [5..6, 9..11]);
        // Again, and with a hole before the data.
        File::options().write(true).open(&path).expect("open").write_all_at(&[0; 4096], 0).expect("written");
        punch_zeros(&path).expect("punched");
        assert_eq!(data(&path).expect("read").count(), 3);
    }
}
