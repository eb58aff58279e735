//! Which pages a file of memory has data for.

use std::fs::File;
use std::path::Path;

use crate::{FileError, Pages, sparse};

/// The pages of a file that are no holes: what a monitor has saved of a guest's memory by itself.
///
/// # Errors
/// When the file cannot be read.
pub fn data(file: &Path) -> Result<Pages, FileError> {
    File::open(file).and_then(|open| sparse::data(&open)).map_err(FileError::reading(file))
}
