//! Failed operations on files of the store.

use std::io;
use std::path::{Path, PathBuf};

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
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self { step, path, source: source.into() }
    }
}
