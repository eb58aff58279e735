//! The lock on a volume that a machine holds while its VMM has the volume's disk open. The kernel releases it however
//! the machine's supervisor ends.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file in a volume's directory that is locked.
const LOCK: &str = "lock";
/// How long another command may hold the lock without using the volume: to find out whether it is in use.
const BRIEF_HOLD: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What a machine does with a volume's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads. Other machines may read as well.
    Shared,
    /// It writes. No other machine may use the disk: ext4 knows of one system that has it mounted.
    Exclusive,
}

/// A volume in use, until the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct VolumeLock {
    file: Arc<File>,
}

impl VolumeLock {
    /// Locks the volume in `dir`; `None` if another machine uses it in a way that does not allow it.
    pub(super) fn acquire(dir: &Path, access: Access) -> io::Result<Option<Self>> {
        let operation = match access {
            Access::Shared => FlockOperation::NonBlockingLockShared,
            Access::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let file = File::create(dir.join(LOCK))?;
        let end = Instant::now() + BRIEF_HOLD;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Some(Self { file: Arc::new(file) })),
                Err(Errno::WOULDBLOCK) if Instant::now() > end => return Ok(None),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(POLL_INTERVAL),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether this is still the lock of the volume in `dir`, which may have been removed before it was locked.
    pub(super) fn is_in(&self, dir: &Path) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (own, current) = (self.file.metadata(), fs::metadata(dir.join(LOCK)));
        matches!((own.map(identity), current.map(identity)), (Ok(own), Ok(current)) if own == current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_writes_or_several_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = |access| VolumeLock::acquire(dir.path(), access).expect("tried");
        let readers = (lock(Access::Shared), lock(Access::Shared));
        assert!(readers.0.is_some() && readers.1.is_some());
        assert!(lock(Access::Exclusive).is_none());
        drop(readers);
        let writer = lock(Access::Exclusive);
        assert!(writer.is_some() && lock(Access::Shared).is_none());
    }
}
