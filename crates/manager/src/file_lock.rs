//! A lock on a file, which one process has at a time. The kernel releases it however the process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

/// How long the lock of a process that was killed may be held: what it was just starting shares the lock until it executes
/// its program.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two attempts to take the lock.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Takes the lock, and creates the file if it is missing. Returns `None` if another process has the lock.
pub(crate) async fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(RETRY_DELAY).await,
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_released_soon_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let first = lock(&path).await.expect("locked").expect("the lock");
        assert!(lock(&path).await.expect("tried").is_none());
        let (second, ()) = tokio::join!(lock(&path), async {
            sleep(2 * RETRY_DELAY).await;
            drop(first);
        });
        assert!(second.expect("tried").is_some());
    }
}
