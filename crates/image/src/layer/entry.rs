//! What one tar entry declares.

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

/// A name with its namespace, and its value as ext4 stores it.
pub(crate) type Xattr = (String, Vec<u8>);

/// One entry of a layer, as it was given: paths are not yet resolved.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Vec<Xattr>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(String),
    HardLink(String),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// Where a file's bytes are: `size` bytes of the layer's spool from `start`; what is
/// outside of `data` is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Offsets within the file and lengths; sorted, disjoint, each beginning at a block
    /// and ending at a block or at the file's end.
    pub(crate) data: Vec<(u64, u64)>,
}
