//! The parsed form of a tar entry.

/// Owner, mode and time of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
}

/// Name with its namespace, and value as ext4 stores it.
pub(crate) type Xattr = (String, Vec<u8>);

/// One entry of a layer, with paths as in the archive: any bytes except zero, because no system requires UTF-8.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Vec<Xattr>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// The location of a file's content: `size` bytes of the layer's spool from `start`.
/// Ranges outside `data` are zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Offsets within the file and lengths: sorted, disjoint, each starting at a block
    /// boundary and ending at a block boundary or at the end of the file.
    pub(crate) data: Vec<(u64, u64)>,
}
