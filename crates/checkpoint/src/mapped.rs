//! Files that a process has mapped, and checks that they have not been replaced.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CheckpointError, file, incompatible, step, unsupported};
use crate::fence;
use crate::maps::{self, Area};

/// Identifies a file's content without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// The stamp of a file from its `struct stat`.
    pub(crate) fn from_stat(stat: &[u8; STAT_BYTES]) -> Self {
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&stat[8 * index..8 * (index + 1)]);
            u64::from_ne_bytes(bytes)
        };
        // Offsets on x86-64: st_dev, st_ino, st_size, st_mtim.
        let modified = (word(11) as i64, word(12) as i64);
        Self { device: word(0), inode: word(1), bytes: word(6), modified }
    }
}

/// Bytes of the kernel's `struct stat`.
pub(crate) const STAT_BYTES: usize = size_of::<libc::stat>();

/// A file that areas are mapped from, and its stamp at the dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MappedFile {
    pub(crate) path: PathBuf,
    pub(crate) stamp: FileStamp,
}

impl MappedFile {
    /// The file of a mapping, if `path` still names it.
    pub(crate) fn from_area(area: &Area, path: &Path) -> Result<Self, CheckpointError> {
        let opened = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unsupported(format!("{} is mapped but was removed", path.display())));
            }
            result => result.map_err(file(path))?,
        };
        // Mapped here and compared as /proc shows it: `stat` may show another device, as on btrfs.
        let probe = fence::ProbeMapping::map(&opened).map_err(step("map a file"))?;
        let own_area = maps::own_area_at(probe.address())?;
        if own_area.is_none_or(|own_area| own_area.inode != area.inode) {
            return Err(unsupported(format!("{} is mapped but was replaced", path.display())));
        }
        let stamp = FileStamp::from_metadata(&opened.metadata().map_err(file(path))?);
        Ok(Self { path: path.to_owned(), stamp })
    }

    /// Refuses a file that was replaced since the dump. This is an early check: the restore compares the
    /// files that it opens.
    pub(crate) fn check(&self) -> Result<(), CheckpointError> {
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.replaced()),
            Ok(found) if FileStamp::from_metadata(&found) != self.stamp => Err(self.replaced()),
            result => result.map(drop).map_err(file(&self.path)),
        }
    }

    fn replaced(&self) -> CheckpointError {
        replaced(&self.path)
    }
}

pub(crate) fn replaced(path: &Path) -> CheckpointError {
    incompatible(format!("{} has been replaced", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_and_metadata_give_the_same_stamp() {
        let file = File::open("/proc/self/exe").expect("opens");
        let stat = rustix::fs::fstat(&file).expect("a stat");
        let mut bytes = [0; STAT_BYTES];
        let words =
            [(0, stat.st_dev), (1, stat.st_ino), (6, stat.st_size as u64), (11, stat.st_mtime as u64)];
        for (index, word) in words.into_iter().chain([(12, stat.st_mtime_nsec)]) {
            bytes[8 * index..8 * (index + 1)].copy_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(
            FileStamp::from_stat(&bytes),
            FileStamp::from_metadata(&file.metadata().expect("metadata"))
        );
        assert_eq!(std::mem::offset_of!(libc::stat, st_size), 6 * 8);
        assert_eq!(std::mem::offset_of!(libc::stat, st_mtime), 11 * 8);
    }
}
