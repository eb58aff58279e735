//! Descriptors that the runtime watches.
#![allow(unsafe_code, reason = "the one place where a descriptor is handed to the runtime")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and has the runtime watch it.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&file, true)?;
    // SAFETY: an OwnedFd stays open, and the same, until it is dropped, and the
    // AsyncFd takes it out of the runtime before that.
    Ok(unsafe { AsyncFd::register_with_interest(file, interest) }?)
}

/// Reads what is there, or waits for it. 0 is the end. Safe to cancel.
pub(crate) async fn read(file: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut guard = file.readable().await?;
        if let Ok(result) = guard.try_io(|file| Ok(rustix::io::read(file, &mut *buffer)?)) {
            return result;
        }
    }
}

/// Writes what there is room for, or waits for room. Safe to cancel.
pub(crate) async fn write(file: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let mut guard = file.writable().await?;
        if let Ok(result) = guard.try_io(|file| Ok(rustix::io::write(file, bytes)?)) {
            return result;
        }
    }
}
