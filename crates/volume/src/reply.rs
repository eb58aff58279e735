//! What goes back to a guest's kernel.

use rustix::fs::Stat;
use rustix::io::Errno;

use super::limits::CACHE_TIMEOUT;
use super::wire::REPLY_HEADER;

/// The outcome of a request that gets an answer.
pub(super) type Outcome = Result<FuseReply, Errno>;

/// An answer under way: its header's place, then its fields.
#[derive(Debug)]
pub(super) struct FuseReply(Vec<u8>);

impl FuseReply {
    /// One without fields yet.
    pub(super) fn new() -> Self {
        Self(vec![0; REPLY_HEADER])
    }

    /// One of `size` bytes that `fill` writes; it tells how many.
    pub(super) fn with_buffer(
        size: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Self, Errno> {
        let mut bytes = vec![0; REPLY_HEADER + size];
        let filled = fill(&mut bytes[REPLY_HEADER..])?;
        bytes.truncate(REPLY_HEADER + filled);
        Ok(Self(bytes))
    }

    /// Adds numbers of 16 bits.
    pub(super) fn u16s<const N: usize>(self, values: [u16; N]) -> Self {
        values.into_iter().fold(self, |reply, value| reply.bytes(&value.to_ne_bytes()))
    }

    /// Adds numbers of 32 bits.
    pub(super) fn u32s<const N: usize>(self, values: [u32; N]) -> Self {
        values.into_iter().fold(self, |reply, value| reply.bytes(&value.to_ne_bytes()))
    }

    /// Adds numbers of 64 bits.
    pub(super) fn u64s<const N: usize>(self, values: [u64; N]) -> Self {
        values.into_iter().fold(self, |reply, value| reply.bytes(&value.to_ne_bytes()))
    }

    /// Adds bytes.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds zeros up to the next multiple of eight.
    pub(super) fn padded(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    /// Adds an entry: which inode, and how it is. No inode at all (0) tells nothing.
    pub(super) fn entry(self, node: u64, stat: &Stat) -> Self {
        let nanos = CACHE_TIMEOUT.subsec_nanos();
        self.u64s([node, 0, CACHE_TIMEOUT.as_secs(), CACHE_TIMEOUT.as_secs()])
            .u32s([nanos, nanos])
            .attributes(stat)
    }

    /// Adds how an inode is.
    pub(super) fn attributes(self, stat: &Stat) -> Self {
        self.u64s([stat.st_ino, stat.st_size as u64, stat.st_blocks as u64])
            .u64s([stat.st_atime as u64, stat.st_mtime as u64, stat.st_ctime as u64])
            .u32s([stat.st_atime_nsec as u32, stat.st_mtime_nsec as u32, stat.st_ctime_nsec as u32])
            .u32s([stat.st_mode, stat.st_nlink as u32, stat.st_uid, stat.st_gid])
            // The numbers of a device are encoded alike on both sides.
            .u32s([stat.st_rdev as u32, stat.st_blksize as u32, 0])
    }

    /// Bytes of fields so far.
    pub(super) fn len(&self) -> usize {
        self.0.len() - REPLY_HEADER
    }

    /// The whole message.
    pub(super) fn into_message(self, unique: u64) -> Vec<u8> {
        with_header(self.0, 0, unique)
    }
}

/// The message that says what went wrong.
pub(super) fn error_reply(error: Errno, unique: u64) -> Vec<u8> {
    with_header(vec![0; REPLY_HEADER], -error.raw_os_error(), unique)
}

fn with_header(mut bytes: Vec<u8>, error: i32, unique: u64) -> Vec<u8> {
    let length = bytes.len() as u32;
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..8].copy_from_slice(&error.to_ne_bytes());
    bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
    bytes
}
