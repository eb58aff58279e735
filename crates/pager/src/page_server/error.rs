//! Why a client cannot be served, or no longer.

use std::io;
use std::time::Duration;

/// Why a client's handshake was refused. The client has been killed: nothing would serve its memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The client's process cannot be identified, so its connection was closed; or it is this process itself,
    /// or had exited before it was looked up.
    #[error("cannot identify the client process")]
    Peer(#[source] io::Error),
    /// It did not send its whole message in time.
    #[error("its message is incomplete: {bytes} bytes in {} s", timeout.as_secs_f64())]
    Timeout {
        /// The bytes received.
        bytes: usize,
        /// The time limit.
        timeout: Duration,
    },
    /// It closed the connection before the message was complete.
    #[error("its message is truncated after {bytes} bytes")]
    Truncated {
        /// The bytes received.
        bytes: usize,
    },
    /// Its message is too long.
    #[error("its message is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// Its message came in too many parts.
    #[error("its message comes in more than {max} parts")]
    TooManyParts {
        /// The limit.
        max: usize,
    },
    /// Its message is not a list of regions.
    #[error("its message is not a list of regions")]
    Malformed(#[source] serde_json::Error),
    /// The connection failed.
    #[error("cannot receive its message")]
    Receive(#[source] io::Error),
    /// No descriptor came with the message.
    #[error("it sent no descriptor")]
    NoDescriptor,
    /// More than one descriptor came with the message.
    #[error("it sent more than one descriptor")]
    TooManyDescriptors,
    /// A descriptor came, but could not be received.
    #[error("cannot receive its descriptor: this process may be at its open files limit")]
    LostDescriptor,
    /// The descriptor is not a userfaultfd.
    #[error("it sent {name} instead of a userfaultfd")]
    NotUserfaultfd {
        /// What it is, in the kernel's words.
        name: String,
    },
    /// The userfaultfd does not report removed pages, or reports forks.
    #[error(
        "its userfaultfd has features {features:#x}: it must report removed pages and must not report forks"
    )]
    Features {
        /// Feature bits of linux/userfaultfd.h.
        features: u64,
    },
    /// The descriptor cannot be inspected.
    #[error("cannot inspect its descriptor")]
    Descriptor(#[source] io::Error),
    /// The list of regions is empty.
    #[error("it sent no memory regions")]
    NoRegions,
    /// The list has too many regions.
    #[error("it sent {count} memory regions, more than {max}")]
    TooManyRegions {
        /// The number of regions.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A region has an unsupported page size.
    #[error("unsupported page size: {bytes} bytes")]
    PageSize {
        /// The size; 0 if none was given.
        bytes: u64,
    },
    /// A region is empty, or not aligned to its pages.
    #[error("invalid memory region: {size} bytes at address {address:#x} and offset {offset:#x}")]
    Region {
        /// Its address in the process.
        address: u64,
        /// Its length in bytes.
        size: u64,
        /// Its offset in the memory.
        offset: u64,
    },
    /// A region exceeds the snapshot's memory.
    #[error("a region of {size} bytes at offset {offset:#x} exceeds the snapshot's memory of {memory} bytes")]
    OutOfBounds {
        /// Its offset in the memory.
        offset: u64,
        /// Its length in bytes.
        size: u64,
        /// The size of the memory in bytes.
        memory: u64,
    },
    /// Two regions overlap, in the process or in the memory.
    #[error("the regions at {one:#x} and {other:#x} overlap")]
    Overlap {
        /// The address of one region.
        one: u64,
        /// The address of the other.
        other: u64,
    },
}

/// Why a clone could not be served any longer. It has been killed: it would have waited for ever, or run with
/// wrong memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The thread that serves the clone could not be started, or panicked.
    #[error("cannot start the thread that serves it, or the thread panicked")]
    Thread(#[source] io::Error),
    /// The memory file has been truncated, or cannot be read.
    #[error("cannot read the memory file at {offset:#x}: it was truncated or is unreadable")]
    MemoryFile {
        /// The offset in the file.
        offset: u64,
    },
    /// The host or the clone's cgroup has no memory for a page.
    #[error("not enough memory for a page")]
    NoMemory(#[source] io::Error),
    /// A fault address is in none of the clone's regions.
    #[error("page fault at {address:#x}, which is in none of its regions")]
    UnknownAddress {
        /// The address.
        address: u64,
    },
    /// The clone has split its memory into too many pieces.
    #[error("it has split its memory into too many pieces")]
    TooManyPieces,
    /// The kernel reported an unsupported event.
    #[error("unsupported userfaultfd event {number:#x}")]
    Event {
        /// Its number in linux/userfaultfd.h.
        number: u8,
    },
    /// The clone's userfaultfd cannot be read.
    #[error("cannot read its userfaultfd")]
    Read(#[source] io::Error),
    /// A page cannot be installed.
    #[error("cannot install the page at {address:#x}")]
    InstallPage {
        /// The address in the process.
        address: u64,
        /// The cause.
        source: io::Error,
    },
}
