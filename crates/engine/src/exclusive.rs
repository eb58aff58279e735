//! Files that one process at a time may hold; the kernel lets go of them however it ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;

/// Makes the file if it is not there, and waits until nobody else holds it.
pub(crate) async fn exclusive(path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let locked = spawn_blocking(move || {
        let file = File::create(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}
