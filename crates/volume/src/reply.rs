//! Replies to a guest's kernel.

use rustix::fs::Stat;
use rustix::io::Errno;

use super::limits::CACHE_TIMEOUT;
use super::wire::REPLY_HEADER;

/// The result of a request that gets a reply.
pub(super) type Outcome = Result<FuseReply, Errno>;

/// A reply under construction: space for its header, then its fields.
#[derive(Debug)]
pub(super) struct FuseReply(Vec<u8>);

impl FuseReply {
    /// A reply without fields.
    pub(super) fn new() -> Self {
        Self(vec![0; REPLY_HEADER])
    }

    /// A reply with up to `size` bytes that `fill` writes; `fill` returns their number.
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

    /// Adds a directory entry: its inode and the attributes. Inode 0 means that there is none.
    pub(super) fn entry(self, node: u64, stat: &Stat) -> Self {
        let nanos = CACHE_TIMEOUT.subsec_nanos();
        self.u64s([node, 0, CACHE_TIMEOUT.as_secs(), CACHE_TIMEOUT.as_secs()])
            .u32s([nanos, nanos])
            .attributes(stat)
    }

    /// Adds the attributes of an inode.
    pub(super) fn attributes(self, stat: &Stat) -> Self {
        self.u64s([stat.st_ino, stat.st_size as u64, stat.st_blocks as u64])
            .u64s([stat.st_atime as u64, stat.st_mtime as u64, stat.st_ctime as u64])
            .u32s([stat.st_atime_nsec as u32, stat.st_mtime_nsec as u32, stat.st_ctime_nsec as u32])
            .u32s([stat.st_mode, stat.st_nlink as u32, stat.st_uid, stat.st_gid])
            // Both sides encode device numbers in the same way.
            .u32s([stat.st_rdev as u32, stat.st_blksize as u32, 0])
    }

    /// The size of the fields, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len() - REPLY_HEADER
    }

    /// Completes the header and returns the message.
    pub(super) fn into_message(self, unique: u64) -> Vec<u8> {
        with_header(self.0, 0, unique)
    }
}

/// The reply to a request that failed.
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
