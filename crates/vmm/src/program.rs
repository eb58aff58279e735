//! Finds and identifies a VMM's program.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path of `program`: itself if it is a path, otherwise the file of that name in PATH. None if PATH has
/// none.
pub(crate) fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let path_dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&path_dirs).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A text that changes whenever the file does. None if there is no such file.
pub(crate) fn file_identity(path: &Path) -> Option<String> {
    let file = path.metadata().ok()?;
    Some(format!("{} {} {}.{}", path.display(), file.size(), file.mtime(), file.mtime_nsec()))
}
