//! The unsafe calls of a page server. Arguments and results are those of linux/userfaultfd.h.
#![expect(unsafe_code, reason = "userfaultfd ioctls and SO_PEERPIDFD have no safe API")]

use std::ffi::c_void;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The ioctl type of userfaultfd calls.
const GROUP: u8 = 0xaa;
const COPY: Opcode = opcode::read_write::<CopyCall>(GROUP, 3);
const ZERO: Opcode = opcode::read_write::<ZeroCall>(GROUP, 4);
/// The kernel reads the argument, though the number says that it writes it.
const WAKE: Opcode = opcode::read::<Addresses>(GROUP, 2);

#[repr(C)]
#[derive(Debug, Default)]
struct Addresses {
    start: u64,
    length: u64,
}

impl From<Range<u64>> for Addresses {
    fn from(addresses: Range<u64>) -> Self {
        Self { start: addresses.start, length: addresses.end.saturating_sub(addresses.start) }
    }
}

#[repr(C)]
#[derive(Debug, Default)]
struct CopyCall {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct ZeroCall {
    addresses: Addresses,
    mode: u64,
    zeroed: i64,
}

/// Copies memory of this process, which need not be present, to addresses of the process that the descriptor
/// belongs to.
pub(crate) fn copy(descriptor: impl AsFd, to: u64, from: *mut c_void, length: u64) -> Result<u64, Errno> {
    let mut call = CopyCall { to, from: from.expose_provenance() as u64, length, mode: 0, copied: 0 };
    // SAFETY: the number is that of UFFDIO_COPY, whose argument has the layout of `CopyCall`. The kernel only
    // reads the source and checks whether it is mapped. It writes to no page that its owner could have seen.
    let result = unsafe { ioctl(descriptor, Updater::<COPY, _>::new(&mut call)) };
    completed_bytes(result, call.copied)
}

/// Installs zero pages.
pub(super) fn zero(descriptor: impl AsFd, addresses: Range<u64>) -> Result<u64, Errno> {
    let mut call = ZeroCall { addresses: addresses.into(), ..ZeroCall::default() };
    // SAFETY: the number is that of UFFDIO_ZEROPAGE, whose argument has the layout of `ZeroCall`. It writes to no page that
    // its owner could have seen.
    let result = unsafe { ioctl(descriptor, Updater::<ZERO, _>::new(&mut call)) };
    completed_bytes(result, call.zeroed)
}

/// Wakes waiting threads.
pub(super) fn wake(descriptor: impl AsFd, addresses: Range<u64>) -> Result<(), Errno> {
    let mut addresses = Addresses::from(addresses);
    // SAFETY: the number is that of UFFDIO_WAKE, whose argument has the layout of `Addresses`; it changes no memory.
    unsafe { ioctl(descriptor, Updater::<WAKE, _>::new(&mut addresses)) }
}

/// An interrupted call reports an error even if it has processed some bytes.
fn completed_bytes(result: Result<(), Errno>, bytes: i64) -> Result<u64, Errno> {
    match (result, u64::try_from(bytes)) {
        (_, Ok(bytes)) if bytes > 0 => Ok(bytes),
        (Ok(()), _) => Err(Errno::AGAIN),
        (Err(error), _) => Err(error),
    }
}

/// Registers a descriptor with the runtime, which waits until it is readable.
pub(crate) fn register_readable(descriptor: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: a `BorrowedFd` always gives the same descriptor, which stays open while it is borrowed.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// A pidfd of the process that connected a socket. `NOPROTOOPT` before Linux 6.5.
pub(crate) fn pidfd_of_peer(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut length = mem::size_of_val(&pidfd) as libc::socklen_t;
    let value = (&raw mut pidfd).cast();
    // SAFETY: both pointers are to local variables, and the length is that of the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            value,
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}
