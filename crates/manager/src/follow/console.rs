//! The log of a guest's console.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::{Position, RotatedFile};

/// The console's log and its rotation, the oldest first.
const FILES: [&str; 2] = ["console.log.1", "console.log"];

/// The output of the console of the machine in `dir`, from a place on.
pub(crate) fn console(dir: PathBuf, from: Option<Position>) -> RotatedFile {
    RotatedFile::new(from, move || {
        let files = FILES.iter().map(|name| File::open(dir.join(name)));
        files
            .filter(|file| !file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
            .collect()
    })
}
