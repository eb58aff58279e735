//! A clock that a test can set.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::guest_program::host_library;

/// The clock of a world's programs, which the test can set. Their monotonic clocks go on, as those of a host do.
#[derive(Debug)]
pub struct Clock {
    file: tempfile::NamedTempFile,
    library: PathBuf,
}

impl Default for Clock {
    fn default() -> Self {
        let file = tempfile::Builder::new().prefix("mmclock").tempfile_in("/tmp").expect("a file");
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), readable).expect("permissions");
        Self { file, library: host_library("clock") }
    }
}

impl Clock {
    /// Sets it to the host's clock and these seconds.
    pub fn set(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        // One write, so that nobody reads a part.
        self.file.as_file().write_all_at(&seconds.to_le_bytes(), 0).expect("written");
    }

    /// What makes programs use it.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("TEST_CLOCK", self.file.path().to_owned())]
    }
}
