//! Full copies of a disk, for drivers without qcow2 overlays.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;

use crate::overlay::{self, OverlayError};

const BUFFER: usize = 256 << 10;

/// Copies `from` to `to`: by reflink where the filesystem supports it, which takes
/// about a millisecond; otherwise by copying the data and keeping the holes, which
/// takes time in proportion to the data. The copy is not synced.
///
/// # Errors
/// When `from` cannot be read, or `to` exists or cannot be written. No file is left then.
pub fn copy(from: &Path, to: &Path) -> Result<(), OverlayError> {
    if overlay::reflink(from, to)? {
        return Ok(());
    }
    let source = File::open(from).map_err(|source| OverlayError::Read { path: from.to_owned(), source })?;
    let created = OpenOptions::new().write(true).create_new(true).open(to);
    let created = created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => OverlayError::Exists { path: to.to_owned() },
        _ => OverlayError::Write { path: to.to_owned(), source },
    })?;
    copy_data(&source, &created).map_err(|source| {
        discard(to);
        OverlayError::Write { path: to.to_owned(), source }
    })
}

/// Removes a partial file after a failure. An error is logged only: the caller reports the original one.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "cannot remove a partial disk");
    }
}

/// Copies all data and keeps the holes.
pub(crate) fn copy_data(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at)? {
        copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(())
}

/// The next range of data at or after an offset.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, rustix::fs::seek(file, SeekFrom::Hole(start))?))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let mut buf = vec![0; BUFFER.min(usize::try_from(end - start).unwrap_or(BUFFER))];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buf.len());
        from.read_exact_at(&mut buf[..length], at)?;
        to.write_all_at(&buf[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_data_and_holes_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"here", 1 << 20).unwrap();
        file.write_all_at(b"there", (64 << 20) - 5).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20, "its holes are filled");
        assert!(matches!(copy(&from, &to), Err(OverlayError::Exists { .. })));
        assert!(matches!(copy(&dir.path().join("none"), &to), Err(OverlayError::Read { .. })));
    }
}
