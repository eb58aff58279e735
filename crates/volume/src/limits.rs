//! How much a guest may make its monitor hold, and how fast what it sees goes stale.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Largest piece of a file that one message carries: larger ones are no faster
/// over the link, whose window is of this size.
pub(super) const MAX_TRANSFER: usize = 256 * 1024;
/// Largest message from a guest. It is not a write: when its kernel forgets
/// many inodes at once it fills all the room that the agent offers, 1 MiB and a page.
pub(super) const MAX_REQUEST: usize = 1024 * 1024 + 16 * 1024;
/// Messages of one volume that are worked on at once: one slow `fsync` leaves three.
pub(super) const WORKERS: usize = 4;
/// Messages that wait for a worker, and answers that wait for the link.
pub(super) const QUEUE: usize = 8;
/// How long the guest may believe what it was told: changes on the host are to be seen soon.
pub(super) const CACHE_TIMEOUT: Duration = Duration::from_secs(1);
/// Files of one volume that a guest's kernel may know, at about 300 bytes each.
const MAX_KNOWN_INODES: usize = 256 * 1024;
/// Files of one volume that are held open for a guest that only knows them.
const MAX_HELD_FDS: usize = 16 * 1024;
/// Files of one volume that a guest may have open.
const MAX_OPEN_FILES: usize = 16 * 1024;
/// Descriptors that the rest of the monitor may need.
const RESERVED_FDS: u64 = 512;

/// What one volume may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Inodes that the guest knows.
    pub known_inodes: usize,
    /// Inodes that a descriptor is held for.
    pub held_fds: usize,
    /// Open files and directories.
    pub open_files: usize,
}

impl Limits {
    /// Shares the process's descriptors among `volumes`.
    pub(super) fn shared_by(volumes: usize) -> Self {
        Self::within((raise_fd_limit().saturating_sub(RESERVED_FDS) / volumes.max(1) as u64) as usize)
    }

    fn within(descriptors: usize) -> Self {
        let half = (descriptors / 2).max(16);
        Self {
            known_inodes: MAX_KNOWN_INODES,
            held_fds: half.min(MAX_HELD_FDS),
            open_files: half.min(MAX_OPEN_FILES),
        }
    }
}

/// How many descriptors this process may have, after asking for all that it can get.
fn raise_fd_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::from(u32::MAX)),
        Err(_) => limit.current.unwrap_or(u64::from(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_takes_no_more_than_its_share() {
        let limits = Limits::within(1000);
        assert_eq!((limits.held_fds, limits.open_files), (500, 500));
        assert_eq!(Limits::within(usize::MAX).held_fds, MAX_HELD_FDS);
    }
}
