//! Filesystems by their magic numbers.

use crate::window::Window;

/// A kind of filesystem, or of another content of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// ext2, ext3 or ext4: mimeo looks inside.
    Ext(&'static str),
    /// One that may hold a system, which mimeo does not look inside.
    Opaque(&'static str),
    /// One that holds no root filesystem.
    Other(&'static str),
}

impl Filesystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext(name) | Self::Opaque(name) | Self::Other(name) => name,
        }
    }
}

/// Magic numbers: where, what, and whose.
const MAGIC: [(u64, &[u8], Filesystem); 14] = [
    (0, b"XFSB", Filesystem::Opaque("xfs")),
    (65_600, b"_BHRfS_M", Filesystem::Opaque("btrfs")),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], Filesystem::Opaque("f2fs")),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], Filesystem::Opaque("erofs")),
    (0, b"hsqs", Filesystem::Opaque("squashfs")),
    (0, b"LUKS\xba\xbe", Filesystem::Other("LUKS (encrypted)")),
    (512, b"LABELONE", Filesystem::Other("LVM")),
    (536, b"LVM2 001", Filesystem::Other("LVM")),
    (82, b"FAT32   ", Filesystem::Other("vfat")),
    (54, b"FAT16   ", Filesystem::Other("vfat")),
    (54, b"FAT12   ", Filesystem::Other("vfat")),
    (3, b"NTFS    ", Filesystem::Other("ntfs")),
    (4086, b"SWAPSPACE2", Filesystem::Other("swap")),
    (32_769, b"CD001", Filesystem::Other("iso9660")),
];

/// The filesystem in a part of a disk; `None` if it is not recognised.
pub(crate) fn identify(part: &Window) -> Option<Filesystem> {
    if let Some(superblock) = Superblock::read(part) {
        return Some(Filesystem::Ext(superblock.version()));
    }
    let has = |at: u64, magic: &[u8]| {
        let mut bytes = vec![0; magic.len()];
        part.read_at(at, &mut bytes).is_ok() && bytes == magic
    };
    MAGIC.iter().find(|(at, magic, _)| has(*at, magic)).map(|(_, _, filesystem)| *filesystem)
}

/// What is checked of ext4's superblock before the reader gets it.
#[derive(Debug)]
pub(crate) struct Superblock {
    /// The filesystem's size.
    pub(crate) bytes: u64,
    /// The number of block groups: the reader keeps a descriptor of each.
    pub(crate) groups: u64,
    compatible: u32,
    incompatible: u32,
}

impl Superblock {
    const AT: u64 = 1024;
    const MAGIC: [u8; 2] = [0x53, 0xef];
    /// Features: a journal, extents, and block numbers of 64 bits.
    const JOURNAL: u32 = 1 << 2;
    const EXTENTS: u32 = 1 << 6;
    const WIDE: u32 = 1 << 7;

    /// Reads the superblock; `None` if there is none.
    pub(crate) fn read(part: &Window) -> Option<Self> {
        let bytes = part.bytes_at::<1024>(Self::AT)?;
        if bytes[56..58] != Self::MAGIC {
            return None;
        }
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let incompatible = number(96);
        let high = if incompatible & Self::WIDE != 0 { u64::from(number(336)) } else { 0 };
        let blocks = high << 32 | u64::from(number(4));
        let block_bytes = 1024_u64.checked_shl(number(24)).unwrap_or(u64::MAX);
        Some(Self {
            bytes: blocks.saturating_mul(block_bytes),
            groups: blocks.checked_div(u64::from(number(32))).unwrap_or(u64::MAX),
            compatible: number(92),
            incompatible,
        })
    }

    fn version(&self) -> &'static str {
        match (self.incompatible & Self::EXTENTS != 0, self.compatible & Self::JOURNAL != 0) {
            (true, _) => "ext4",
            (false, true) => "ext3",
            (false, false) => "ext2",
        }
    }
}
