//! What distinguishes two states of a machine on disk, without reading its record.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Home;
use crate::machine::lock::is_supervised;
use crate::machine::record::FILE;
use crate::machine::spare;

/// The state of a machine on disk; the default is that of a machine that does not exist.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    exists: bool,
    is_supervised: bool,
    record: Option<File>,
    spare: Option<File>,
}

/// A file that is always replaced as a whole: its inode and its time of modification.
type File = (u64, i64, i64);

impl Stamp {
    /// Returns the stamp of the machine with this directory.
    pub(super) fn read(home: &Home, name: &str) -> Self {
        let dir = home.machines().join(name);
        if !dir.is_dir() {
            return Self::default();
        }
        Self {
            exists: true,
            is_supervised: is_supervised(&dir),
            record: stamp_file(&dir.join(FILE)),
            spare: stamp_file(&spare::dir(home).join(format!("{name}.json"))),
        }
    }

    /// Returns whether the machine exists.
    pub(super) fn exists(&self) -> bool {
        self.exists
    }
}

fn stamp_file(path: &Path) -> Option<File> {
    fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec()))
}
