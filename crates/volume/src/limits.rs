//! How many resources a guest may use in its supervisor, and how long it may cache attributes.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Largest piece of a file in one message. Larger ones are not faster: the
/// window of the guest link has this size.
pub(super) const MAX_TRANSFER: usize = 256 * 1024;
/// Largest message from a guest. It is not a write: when the guest's kernel
/// forgets many inodes at once, it fills the agent's whole buffer, 1 MiB and a page.
pub(super) const MAX_REQUEST: usize = 1024 * 1024 + 16 * 1024;
/// Threads per volume: one slow `fsync` leaves three for other requests.
pub(super) const WORKERS: usize = 4;
/// Maximum number of requests that wait for a worker, and of replies that wait for the link.
pub(super) const QUEUE: usize = 8;
/// How long the guest may cache names and attributes: changes on the host must become visible soon.
pub(super) const CACHE_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests of one volume that may wait for a lock.
pub(super) const MAX_WAITING_LOCKS: usize = 1024;
/// Interrupted requests that are remembered: more than may be on their way to a worker.
pub(super) const REMEMBERED_INTERRUPTS: usize = 64;
/// How long a lock that a process of the host has released may stay unnoticed. The host's own processes wait in its
/// kernel, and so get a lock before the guest's.
pub(super) const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How old a file's last change must be for its stamp to identify its content: before Linux 6.13, a second change
/// leaves the same times until the clock of the host's kernel has advanced, which takes up to 10 ms.
pub(super) const STABLE_AFTER: Duration = Duration::from_millis(50);
/// Files that a guest's kernel may know in all of a machine's volumes, at about 300 bytes each.
const MAX_KNOWN_INODES: usize = 1024 * 1024;
/// Descriptors that one volume holds for inodes that the guest knows but has not opened.
const MAX_HELD_FDS: usize = 16 * 1024;
/// Files of one volume that a guest may have open.
const MAX_OPEN_FILES: usize = 16 * 1024;
/// Descriptors that the rest of the supervisor may need.
const RESERVED_FDS: u64 = 512;

/// The resources that one volume may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Inodes that the guest knows.
    pub known_inodes: usize,
    /// Inodes with a held descriptor.
    pub held_fds: usize,
    /// Open files and directories.
    pub open_files: usize,
}

impl Limits {
    /// Divides the process's descriptors and memory among `volumes`.
    pub(super) fn shared_by(volumes: usize) -> Self {
        Self::divide(raise_fd_limit().saturating_sub(RESERVED_FDS) as usize, volumes.max(1))
    }

    fn divide(descriptors: usize, volumes: usize) -> Self {
        let half = (descriptors / volumes / 2).max(16);
        Self {
            known_inodes: MAX_KNOWN_INODES / volumes,
            held_fds: half.min(MAX_HELD_FDS),
            open_files: half.min(MAX_OPEN_FILES),
        }
    }
}

/// Raises the soft limit of descriptors to the hard limit; returns how many the process may have.
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
        let limits = Limits::divide(1000, 1);
        assert_eq!((limits.held_fds, limits.open_files), (500, 500));
        assert_eq!(Limits::divide(usize::MAX, 1).held_fds, MAX_HELD_FDS);
        let limits = Limits::divide(1000, 2);
        assert_eq!((limits.held_fds, limits.open_files), (250, 250));
        assert_eq!(limits.known_inodes, MAX_KNOWN_INODES / 2);
    }
}
