//! Removes files where a failure must not stop the caller.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a file, if it exists. A failure is only logged.
pub(crate) fn remove_file(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "cannot remove the file");
        }
        _ => {}
    }
}
