//! File locks that one process at a time holds; the kernel releases them however the process ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;

/// Creates the file if it does not exist, and waits until no other process holds the lock.
pub(crate) async fn lock_exclusive(path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let locked = spawn_blocking(move || {
        let file = File::create(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}
