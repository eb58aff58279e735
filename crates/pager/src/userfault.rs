//! A userfaultfd: reading another process's faults and events, and answering them.

pub(crate) mod fence;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::fence::Mapping;

/// The name of a userfaultfd in /proc.
const PROC_NAME: &str = "anon_inode:[userfaultfd]";
/// Features of linux/userfaultfd.h, a stable kernel ABI.
pub(crate) const EVENT_FORK: u64 = 1 << 1;
pub(crate) const EVENT_REMAP: u64 = 1 << 2;
pub(crate) const EVENT_REMOVE: u64 = 1 << 3;
pub(crate) const EVENT_UNMAP: u64 = 1 << 6;
/// Message types.
const PAGEFAULT: u8 = 0x12;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;
/// Flags of a fault that is not for a missing page: a write-protect or a minor fault.
const NOT_MISSING_FLAGS: u64 = 0b110;
/// `struct uffd_msg`.
const MESSAGE_BYTES: usize = 32;
/// Messages per read: a guest of as many vCPUs may fault at once, and it is still only 2 KiB.
const MAX_MESSAGES: usize = 64;

/// A message about registered memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A thread waits for the page at this address.
    Fault { address: u64 },
    /// The pages at these addresses were removed; the addresses are still mapped.
    Remove { addresses: Range<u64> },
    /// These addresses were unmapped.
    Unmap { addresses: Range<u64> },
    /// The memory at these addresses was moved to `to`.
    Remap { from: Range<u64>, to: u64 },
    /// Another message type, by its number.
    Other { number: u8 },
}

/// A buffer for the messages of one read.
#[derive(Debug)]
pub(crate) struct Messages {
    bytes: [u8; MESSAGE_BYTES * MAX_MESSAGES],
    count: usize,
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; MESSAGE_BYTES * MAX_MESSAGES], count: 0 }
    }

    /// Reads pending messages; none if the descriptor is non-blocking and nothing is pending. The kernel
    /// delivers faults before events, whatever came first.
    pub(crate) fn read(&mut self, descriptor: impl AsFd) -> Result<(), Errno> {
        self.count = match rustix::io::read(descriptor, &mut self.bytes) {
            Ok(bytes) => bytes / MESSAGE_BYTES,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.bytes.as_chunks().0.iter().take(self.count).map(parse_event)
    }

    /// Whether more messages may be pending.
    pub(crate) fn is_full(&self) -> bool {
        self.count == MAX_MESSAGES
    }
}

/// Parses one message, by the kernel's layout.
fn parse_event(message: &[u8; MESSAGE_BYTES]) -> Event {
    let words: &[[u8; 8]] = message.as_chunks().0;
    let [first, second, third] = [1, 2, 3].map(|word| u64::from_le_bytes(words[word]));
    match message[0] {
        PAGEFAULT if first & NOT_MISSING_FLAGS == 0 => Event::Fault { address: second },
        REMOVE => Event::Remove { addresses: first..second },
        UNMAP => Event::Unmap { addresses: first..second },
        REMAP => Event::Remap { from: first..first.saturating_add(third), to: second },
        number => Event::Other { number },
    }
}

/// Why a descriptor cannot be served.
#[derive(Debug)]
pub(crate) enum UffdError {
    /// It is not a userfaultfd.
    Other { name: String },
    /// It has unsupported features.
    Features { features: u64 },
    /// It cannot be inspected.
    Unreadable(io::Error),
}

/// Checks that a descriptor can be served. It must report removals, or removed pages would come back with
/// their old content; it must not report forks, since the forked process could not be killed.
pub(crate) fn validate(descriptor: &OwnedFd) -> Result<(), UffdError> {
    let number = descriptor.as_raw_fd();
    let name = fs::read_link(format!("/proc/self/fd/{number}")).map_err(UffdError::Unreadable)?;
    if name.as_os_str() != PROC_NAME {
        return Err(UffdError::Other { name: name.display().to_string() });
    }
    let fdinfo = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(UffdError::Unreadable)?;
    let features = features(&fdinfo).unwrap_or(0);
    if features & EVENT_REMOVE == 0 || features & EVENT_FORK != 0 {
        return Err(UffdError::Features { features });
    }
    // A blocking descriptor could not be polled together with others.
    rustix::io::ioctl_fionbio(descriptor, true).map_err(|error| UffdError::Unreadable(error.into()))
}

/// A validated userfaultfd of another process.
#[derive(Debug)]
pub(crate) struct Userfault<'a>(BorrowedFd<'a>);

impl<'a> Userfault<'a> {
    pub(crate) fn new(descriptor: &'a OwnedFd) -> Self {
        Self(descriptor.as_fd())
    }

    /// The poll entry that waits for messages.
    pub(crate) fn when_readable(&self) -> PollFd<'a> {
        PollFd::from_borrowed_fd(self.0, PollFlags::IN)
    }

    /// Reads pending messages, if any.
    pub(crate) fn read(&self, into: &mut Messages) -> Result<(), Errno> {
        into.read(self.0)
    }

    /// Installs copies of `length` bytes of a mapping, and wakes the threads that wait for them. Returns the
    /// number of bytes.
    pub(crate) fn copy(&self, to: u64, from: (&Mapping, u64), length: u64) -> Result<u64, Errno> {
        let (mapping, offset) = from;
        let bytes = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        let source = mapping.checked_address(offset, bytes).map_err(|_| Errno::FAULT)?;
        fence::copy(self.0, to, source, length)
    }

    /// Installs zero pages, like [`Userfault::copy`].
    pub(crate) fn zero(&self, addresses: Range<u64>) -> Result<u64, Errno> {
        fence::zero(self.0, addresses)
    }

    /// Wakes the threads that wait for these addresses, which then retry.
    pub(crate) fn wake(&self, addresses: Range<u64>) -> Result<(), Errno> {
        fence::wake(self.0, addresses)
    }
}

/// The features in `API:\taa:FEATURES:IOCTLS`.
fn features(fdinfo: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("API:"))?;
    u64::from_str_radix(line.trim().split(':').nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, words: [u64; 3]) -> [u8; MESSAGE_BYTES] {
        let mut message = [0; MESSAGE_BYTES];
        message[0] = kind;
        for (slot, word) in message[8..].as_chunks_mut().0.iter_mut().zip(words) {
            *slot = word.to_le_bytes();
        }
        message
    }

    #[test]
    fn messages_are_read_as_the_kernel_writes_them() {
        let fault = |flags| parse_event(&message(PAGEFAULT, [flags, 0x7000, 9]));
        assert_eq!(fault(1), Event::Fault { address: 0x7000 });
        assert_eq!(
            [fault(2), fault(4)],
            [Event::Other { number: PAGEFAULT }, Event::Other { number: PAGEFAULT }]
        );
        let gone = 0x1000..0x3000;
        assert_eq!(
            parse_event(&message(REMOVE, [0x1000, 0x3000, 0])),
            Event::Remove { addresses: gone.clone() }
        );
        assert_eq!(
            parse_event(&message(UNMAP, [0x1000, 0x3000, 0])),
            Event::Unmap { addresses: gone.clone() }
        );
        let moved = Event::Remap { from: gone, to: 0x9000 };
        assert_eq!(parse_event(&message(REMAP, [0x1000, 0x9000, 0x2000])), moved);
        assert_eq!(parse_event(&message(0x13, [5, 0, 0])), Event::Other { number: 0x13 });
    }

    #[test]
    fn features_are_parsed_from_fdinfo() {
        assert_eq!(features("pos:\t0\npending:\t0\nAPI:\taa:8:1ff\n"), Some(8));
        assert_eq!(features("pos:\t0\n"), None);
    }
}
