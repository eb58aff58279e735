//! Leaves free space to others while large files are written: machines are paused when their disks cannot be written.

use std::fs::File;

/// The free space that is left to others.
const RESERVE_BYTES: u64 = 256 << 20;
/// How much is written between two looks at the free space.
const INTERVAL_BYTES: u64 = 64 << 20;

/// There is not enough free space.
#[derive(Debug, thiserror::Error)]
#[error(
    "insufficient disk space: {available} bytes are free, {needed} bytes must be (of which {RESERVE_BYTES} are left to \
     machines): free some space, or set MIMEO_HOME to a directory on another disk"
)]
pub struct SpaceError {
    /// The free space in bytes.
    pub available: u64,
    /// The free space that is needed, in bytes.
    pub needed: u64,
}

/// Looks at the free space from time to time.
#[derive(Debug, Default)]
pub(crate) struct SpaceGuard {
    /// How much may be written before the next look.
    allowed: u64,
}

impl SpaceGuard {
    /// Called before `bytes` bytes are written to the file.
    pub(crate) fn check(&mut self, file: &File, bytes: usize) -> Result<(), SpaceError> {
        let bytes = bytes as u64;
        if self.allowed < bytes {
            check_space(file, INTERVAL_BYTES)?;
            self.allowed = INTERVAL_BYTES;
        }
        self.allowed = self.allowed.saturating_sub(bytes);
        Ok(())
    }
}

/// Checks that `bytes` bytes may be written to the filesystem that a file is on.
pub(crate) fn check_space(file: &File, bytes: u64) -> Result<(), SpaceError> {
    // A filesystem that does not say how full it is reports ENOSPC later.
    let Ok(found) = rustix::fs::fstatvfs(file) else { return Ok(()) };
    let available = found.f_bavail.saturating_mul(found.f_frsize);
    let needed = bytes.saturating_add(RESERVE_BYTES);
    if available < needed { Err(SpaceError { available, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_written() {
        let file = tempfile::tempfile().expect("a file");
        check_space(&file, 0).expect("space");
        let error = check_space(&file, 1 << 60).expect_err("too much");
        assert!(error.to_string().contains("insufficient disk space"), "{error}");
        SpaceGuard::default().check(&file, 1 << 16).expect("space");
    }
}
