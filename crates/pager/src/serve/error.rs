//! Why a process cannot be served, or not any longer.

use std::io;
use std::time::Duration;

/// Why a process that has connected was not taken for a clone. It has been ended: nobody would serve its memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is not known who it is, so it has been let go of; or it is this process itself, or had ended before it was looked up.
    #[error("it is not known which process it is")]
    Peer(#[source] io::Error),
    /// It did not say all within its time.
    #[error("it said no more than {bytes} bytes in {} s", patience.as_secs_f64())]
    Silent {
        /// What came.
        bytes: usize,
        /// How long it had.
        patience: Duration,
    },
    /// It closed the connection before all was said.
    #[error("its message ends after {bytes} bytes")]
    Cut {
        /// What came.
        bytes: usize,
    },
    /// It said more than a message has room for.
    #[error("its message is longer than {most} bytes")]
    Long {
        /// The most.
        most: usize,
    },
    /// It said it in more pieces than are listened to.
    #[error("its message comes in more than {most} parts")]
    Parts {
        /// The most.
        most: usize,
    },
    /// What it said is no list of regions.
    #[error("its message is no list of regions")]
    Words(#[source] serde_json::Error),
    /// The connection failed.
    #[error("its message cannot be received")]
    Receive(#[source] io::Error),
    /// There was no descriptor with the message.
    #[error("it sent no descriptor")]
    NoDescriptor,
    /// There was more than one.
    #[error("it sent more than one descriptor")]
    ManyDescriptors,
    /// There was one, but it could not be had.
    #[error("its descriptor could not be received: this process may have no more")]
    LostDescriptor,
    /// The descriptor is something else.
    #[error("it sent {name}, which is no userfaultfd")]
    NoUserfault {
        /// What it is, as the kernel calls it.
        name: String,
    },
    /// The kernel has not been told to tell of removed pages, or has been told to tell of forks.
    #[error("its userfaultfd has features {features:#x}: it must tell of removed pages and not of forks")]
    Features {
        /// Bits of linux/userfaultfd.h.
        features: u64,
    },
    /// The descriptor cannot be looked at.
    #[error("its descriptor cannot be looked at")]
    Descriptor(#[source] io::Error),
    /// It named no region.
    #[error("it named no region of memory")]
    NoRegions,
    /// It named more than are kept.
    #[error("it named {count} regions of memory, more than {most}")]
    ManyRegions {
        /// How many.
        count: usize,
        /// The most.
        most: usize,
    },
    /// A region's pages are of no size that is known.
    #[error("pages of {bytes} bytes are not known")]
    PageSize {
        /// The size; 0 where none was said.
        bytes: u64,
    },
    /// A region is empty, or does not lie on its pages' borders.
    #[error("{size} bytes at address {address:#x} and offset {offset:#x} are no region of memory")]
    Region {
        /// Where it lies in the process.
        address: u64,
        /// Its bytes.
        size: u64,
        /// Where it begins in the memory.
        offset: u64,
    },
    /// The snapshot's memory ends before a region does.
    #[error("{size} bytes from {offset:#x} on are more than the snapshot's memory of {memory} bytes has")]
    Beyond {
        /// Where the region begins in the memory.
        offset: u64,
        /// Its bytes.
        size: u64,
        /// Bytes of the memory.
        memory: u64,
    },
    /// Two regions share addresses, or a part of the memory.
    #[error("the regions at {one:#x} and {other:#x} share memory")]
    Overlap {
        /// The address of one.
        one: u64,
        /// That of the other.
        other: u64,
    },
}

/// Why a clone could not be served any longer. It has been ended: it would have waited for ever, or gone on with
/// memory that was not its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// This process has no thread or no descriptor left to serve it with.
    #[error("nothing that serves it could be started, or what was broke down")]
    Start(#[source] io::Error),
    /// The memory file has been cut short, or cannot be read.
    #[error("the memory file has nothing at {offset:#x} any more")]
    Memory {
        /// Where in the file.
        offset: u64,
    },
    /// The host, or the group that the clone is in, has no memory left for a page.
    #[error("there is no memory for a page of it")]
    NoMemory(#[source] io::Error),
    /// It waits for memory that is in none of its regions.
    #[error("it waits for memory at {address:#x}, which is in none of its regions")]
    Stray {
        /// Where.
        address: u64,
    },
    /// It has cut its memory into too many pieces.
    #[error("it has cut its memory into too many pieces")]
    Shattered,
    /// The kernel told something that cannot be answered.
    #[error("the kernel tells event {number:#x} of it, which is not served")]
    Event {
        /// Its number in linux/userfaultfd.h.
        number: u8,
    },
    /// Its descriptor cannot be read.
    #[error("its userfaultfd cannot be read")]
    Read(#[source] io::Error),
    /// A page cannot be put in.
    #[error("the page at {address:#x} cannot be put in")]
    Put {
        /// Where in the process.
        address: u64,
        /// Why.
        source: io::Error,
    },
}
