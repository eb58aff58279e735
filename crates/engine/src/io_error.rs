//! I/O errors of the host that name what was tried on which path.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path that the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct IoError {
    /// What was tried, as a verb: `read`, `create`, `rename`.
    pub step: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Adds the step and the path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|error| IoError { step, path: path.as_ref().to_owned(), source: error.into() })
    }
}
