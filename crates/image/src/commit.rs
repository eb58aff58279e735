//! Atomic file creation: temporary file, sync, rename, sync of the directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file of the store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    /// The failed operation, as `read` or `rename`.
    pub step: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: adds the failed operation and the file.
    pub(crate) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { step, path, source }
    }
}

/// Writes a small file atomically.
pub(crate) fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = create_temporary(temporary)?;
    file.write_all(bytes).map_err(FileError::at("write", file.path()))?;
    persist(file, path)
}

/// Creates a temporary file, which is deleted when dropped.
pub(crate) fn create_temporary(temporary: &Path) -> Result<NamedTempFile, FileError> {
    NamedTempFile::new_in(temporary).map_err(FileError::at("write in", temporary))
}

/// Syncs a temporary file and renames it to `path`.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), FileError> {
    file.as_file().sync_all().map_err(FileError::at("sync", path))?;
    file.persist(path).map_err(|error| FileError::at("rename to", path)(error.error))?;
    sync_parent(path)
}

/// Syncs the parent directory, so that a rename survives a crash.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    // The parent of a plain file name is the working directory.
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(FileError::at("sync", parent))
}

/// Removes a file. A missing file is not an error. Returns the disk space freed, in bytes.
pub(crate) fn remove(path: &Path) -> Result<u64, FileError> {
    use std::os::unix::fs::MetadataExt;
    let bytes = std::fs::metadata(path).map(|meta| meta.blocks() * 512).unwrap_or(0);
    match std::fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(FileError { step: "remove", path: path.to_owned(), source }),
    }
}
