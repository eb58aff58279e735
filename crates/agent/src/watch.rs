//! File descriptors that the async runtime watches.
#![allow(
    unsafe_code,
    reason = "registering a descriptor with the runtime is unsafe; this is the only place that does"
)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and registers it with the runtime.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&file, true)?;
    // SAFETY: an OwnedFd stays open, and the same, until it is dropped, and the
    // AsyncFd deregisters it before that.
    Ok(unsafe { AsyncFd::register_with_interest(file, interest) }?)
}

/// Waits until data is available, and reads it. 0 is the end of the file. Cancel-safe.
pub(crate) async fn read(file: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut guard = file.readable().await?;
        if let Ok(result) = guard.try_io(|file| Ok(rustix::io::read(file, &mut *buffer)?)) {
            return result;
        }
    }
}

/// As [`read`], but replaces the content of `buffer`, up to its capacity.
pub(crate) async fn read_into(file: &AsyncFd<OwnedFd>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    loop {
        let mut guard = file.readable().await?;
        if let Ok(result) = guard.try_io(|file| Ok(rustix::io::read(file, spare_capacity(buffer))?)) {
            return result;
        }
    }
}

/// Waits until the descriptor is writable, and writes what fits. Cancel-safe.
pub(crate) async fn write(file: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let mut guard = file.writable().await?;
        if let Ok(result) = guard.try_io(|file| Ok(rustix::io::write(file, bytes)?)) {
            return result;
        }
    }
}
