//! Files appear whole or not at all: temporary file, sync, rename, sync of the directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file of the store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    /// What was tried, as `read` or `rename`.
    pub step: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: what was tried on which file.
    pub(crate) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { step, path, source }
    }
}

/// Writes a small file.
pub(crate) fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = create_temporary(temporary)?;
    file.write_all(bytes).map_err(FileError::at("write", file.path()))?;
    persist(file, path)
}

/// A temporary file that goes when it is dropped.
pub(crate) fn create_temporary(temporary: &Path) -> Result<NamedTempFile, FileError> {
    NamedTempFile::new_in(temporary).map_err(FileError::at("write in", temporary))
}

/// Puts a temporary file in its place.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), FileError> {
    file.as_file().sync_all().map_err(FileError::at("sync", path))?;
    file.persist(path).map_err(|error| FileError::at("rename to", path)(error.error))?;
    sync_parent(path)
}

/// Makes a rename last.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(FileError::at("sync", parent))
}

/// Removes a file; one that is gone already is no error. Bytes of disk given back.
pub(crate) fn remove(path: &Path) -> Result<u64, FileError> {
    use std::os::unix::fs::MetadataExt;
    let bytes = std::fs::metadata(path).map(|meta| meta.blocks() * 512).unwrap_or(0);
    match std::fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(FileError { step: "remove", path: path.to_owned(), source }),
    }
}
