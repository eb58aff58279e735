//! Files that commands write whole or not at all: beside their place, then renamed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A pipe or a device, which is written in place: it cannot be replaced by a file.
pub(crate) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

/// The file that a rename replaces: a symbolic link stays, and its target is written.
pub(crate) fn destination(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Creates a temporary file beside `path`. It is deleted when dropped.
pub(crate) fn create_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A file that is replaced passes on its permissions: it may be private. The umask applies, as for any new file.
    let mode = fs::metadata(path).map_or(0o666, |meta| meta.permissions().mode() & 0o777);
    Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)
}
