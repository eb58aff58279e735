//! Parses FUSE messages from a guest's kernel, which is not trusted: a request
//! that is too short for one of its fields is refused.

use std::ffi::CStr;

use rustix::io::Errno;

/// Bytes of a request's header.
pub(super) const REQUEST_HEADER: usize = 40;
/// Bytes of a reply's header.
pub(super) const REPLY_HEADER: usize = 16;
/// Longest name in a directory.
const MAX_NAME: usize = 255;

/// The opcodes of requests.
pub(super) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const SETLK: u32 = 32;
    pub(crate) const SETLKW: u32 = 33;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const TMPFILE: u32 = 51;
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// One of [`opcode`].
    pub opcode: u32,
    /// The id of the request, which its reply repeats.
    pub unique: u64,
    /// The inode that it refers to.
    pub node: u64,
    /// The user who caused the request.
    pub uid: u32,
    /// The group of that user.
    pub gid: u32,
    /// The fields after the header.
    pub body: Fields<'a>,
}

impl<'a> Request<'a> {
    /// Parses the header; `None` if the message is too short for one.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (header, body) = message.split_at_checked(REQUEST_HEADER)?;
        Self::parse_header(Fields(header), Fields(body)).ok()
    }

    fn parse_header(mut header: Fields<'a>, body: Fields<'a>) -> Result<Self, Errno> {
        let _length = header.u32()?;
        let opcode = header.u32()?;
        let (unique, node) = (header.u64()?, header.u64()?);
        let (uid, gid) = (header.u32()?, header.u32()?);
        Ok(Self { opcode, unique, node, uid, gid, body })
    }
}

/// The fields of a message that are not yet parsed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next number.
    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*bytes))
    }

    /// The next number.
    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*bytes))
    }

    /// The next NUL-terminated string.
    pub(super) fn string(&mut self) -> Result<&'a CStr, Errno> {
        let string = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = &self.0[string.count_bytes() + 1..];
        Ok(string)
    }

    /// The next string, which must be the name of one directory entry.
    pub(super) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.string()?;
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            bytes if bytes.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
            _ => Ok(name),
        }
    }

    /// The next `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_one_entry_of_a_directory() {
        for bad in [&b"\0"[..], b".\0", b"..\0", b"a/b\0", b"/\0", b"endless", b""] {
            assert_eq!(Fields(bad).name(), Err(Errno::INVAL), "{bad:?}");
        }
        let long = [b"x".repeat(256), vec![0]].concat();
        assert_eq!(Fields(&long).name(), Err(Errno::NAMETOOLONG));
        assert_eq!(Fields(b"...\0").name(), Ok(c"..."));
    }

    proptest! {
        #[test]
        fn random_bytes_cause_no_panic(bytes: Vec<u8>) {
            if let Some(mut request) = Request::parse(&bytes) {
                request.body.name().ok();
                request.body.u64().ok();
                request.body.bytes(request.node as usize).ok();
            }
        }
    }
}
