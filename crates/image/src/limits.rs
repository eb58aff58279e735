//! Limits on images, which are untrusted input.

/// Limits that a pull or an import enforces. Refusals name the layer and the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Uncompressed bytes of all layers, including holes of sparse files. A 10 GB bomb must not fill the disk.
    pub unpacked_bytes: u64,
    /// Entries of all layers. Each costs about 300 bytes of memory while the filesystem is built.
    pub entries: u64,
    /// Highest ratio of a layer's uncompressed to its compressed size, above [`Self::ratio_floor`].
    /// Real layers stay under 20; gzip of zeros reaches 1032, zstd more than 10,000.
    pub ratio: u64,
    /// Uncompressed bytes up to which the ratio is not checked: a small layer of zeros does no harm.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked_bytes: 10 << 30, entries: 2_000_000, ratio: 100, ratio_floor: 1 << 30 }
    }
}

impl Limits {
    /// Without the limit on the ratio: for layers that the store has accepted, and for those that it compresses.
    pub(crate) fn without_ratio(&self) -> Self {
        Self { ratio: u64::MAX, ..self.clone() }
    }
}

/// Longest path component, ext4's limit.
pub(crate) const MAX_NAME: usize = 255;
/// Linux's `PATH_MAX` without the final zero.
pub(crate) const MAX_PATH: usize = 4095;
/// Symbolic links followed for one path, as Linux counts.
pub(crate) const MAX_LINKS: usize = 40;
/// Size of one PAX header or GNU long name: many times what `PATH_MAX` and the xattr limits need.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Segments of one sparse file.
pub(crate) const MAX_SEGMENTS: usize = 1 << 16;
/// Extended attributes that ext4 stores outside the inode: one block without its header and end mark.
pub(crate) const MAX_XATTRS: usize = 4096 - 36;
/// Size of a manifest or configuration: registries refuse larger ones too.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
