//! File operations whose errors name the step and the path, and writes and
//! renames that survive a crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// An I/O error with the step that failed and its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    /// The step that failed, as a verb: `read`, `create`, `rename`.
    pub step: &'static str,
    /// The path that the step was applied to.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Adds the step and the path to a bare I/O error.
pub(super) trait IoContext<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|error| FileError { step, path: path.to_owned(), source: error.into() })
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).at("read", path)
}

pub(super) fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).at("create", path)
}

/// Writes a whole file and forces it to the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// Forces a directory's entries to the disk. Without this a crash may undo a
/// rename, even if the renamed file itself is already on the disk.
pub(super) fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync", path)
}

/// Renames within one directory and makes the new name durable.
pub(super) fn rename_synced(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).at("rename", from)?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))
}

/// The SHA-256 of some bytes, in 64 hex digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
