//! What an image may at most be. An image is a stranger's input.

/// Bounds that a pull or an import keeps to. Refusals name the layer and the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all layers uncompressed, holes of sparse files counted. A 10 GB bomb must not fill the disk.
    pub unpacked_bytes: u64,
    /// Entries of all layers. Each costs about 300 bytes of memory while the filesystem is built.
    pub entries: u64,
    /// How many times its compressed size a layer may unpack to, once it is past [`Self::ratio_floor`].
    /// Real layers stay under 20; gzip of zeros reaches 1032, zstd more than 10,000.
    pub ratio: u64,
    /// Below this many unpacked bytes the ratio is not looked at: a small layer of zeros harms nobody.
    pub ratio_floor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked_bytes: 10 << 30, entries: 2_000_000, ratio: 100, ratio_floor: 1 << 30 }
    }
}

/// A path's longest component, ext4's own limit.
pub(crate) const MAX_NAME: usize = 255;
/// Linux's `PATH_MAX` less the final zero.
pub(crate) const MAX_PATH: usize = 4095;
/// Symbolic links followed for one path, as Linux counts.
pub(crate) const MAX_LINKS: usize = 40;
/// One PAX record block or GNU long name: many times what `PATH_MAX` and the xattr limits need.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Segments of one sparse file.
pub(crate) const MAX_SEGMENTS: usize = 1 << 16;
/// What ext4 holds of extended attributes outside the inode: one block less its header and end mark.
pub(crate) const MAX_XATTRS: usize = 4096 - 36;
/// Manifests and configs: registries refuse larger ones themselves.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
