//! The header of a qcow2 file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{COMPRESSED, Cluster, OFFSET_MASK, Qcow2Error, SECTOR, ZERO, check_end, damaged};

pub(in crate::image) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// The header of version 2, and the least of version 3.
const V2_BYTES: u64 = 72;
const V3_BYTES: u64 = 104;
/// Where version 3 says how clusters are compressed, if its header is longer than the least.
const COMPRESSION_AT: usize = 104;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's limit of the L1 table: 32 MiB.
const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;

/// Incompatible features.
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const EXTENDED_L2: u64 = 1 << 4;
/// Refcounts may be wrong, which does not matter to readers; the kind of compression is stated.
const HARMLESS: u64 = 1 | 1 << 3;

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

/// What a reader needs of the header.
#[derive(Debug)]
pub(super) struct Header {
    is_version_2: bool,
    cluster_bits: u32,
    /// The disk's size.
    pub(super) bytes: u64,
    pub(super) l1_offset: u64,
    pub(super) compression: Compression,
}

impl Header {
    pub(super) fn read(file: &File, length: u64, max_bytes: u64) -> Result<Self, Qcow2Error> {
        check_end(length, "the header", V2_BYTES)?;
        let mut bytes = [0; COMPRESSION_AT + 1];
        let available = bytes.len().min(length as usize);
        file.read_exact_at(&mut bytes[..available], 0)?;
        let version = u32_at(&bytes, 4);
        match version {
            2 => {}
            3 => check_end(length, "the header", V3_BYTES)?,
            _ => return Err(Qcow2Error::Unsupported { feature: format!("version {version} of the format") }),
        }
        let compression = if version == 3 { read_features(&bytes)? } else { Compression::Deflate };
        if u64_at(&bytes, 8) != 0 {
            return Err(Qcow2Error::BackingFile);
        }
        if u32_at(&bytes, 32) != 0 {
            return Err(Qcow2Error::Encrypted);
        }
        let header = Self {
            is_version_2: version == 2,
            cluster_bits: u32_at(&bytes, 20),
            bytes: u64_at(&bytes, 24),
            l1_offset: u64_at(&bytes, 40),
            compression,
        };
        header.check(u64::from(u32_at(&bytes, 36)), max_bytes)?;
        Ok(header)
    }

    fn check(&self, l1_entries: u64, max_bytes: u64) -> Result<(), Qcow2Error> {
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return Err(damaged(format!("its clusters have 2^{} bytes", self.cluster_bits)));
        }
        if self.bytes > max_bytes {
            return Err(Qcow2Error::TooLarge { bytes: self.bytes, max: max_bytes });
        }
        if l1_entries < self.l1_entries_needed() || self.l1_entries_needed() > MAX_L1_ENTRIES {
            return Err(damaged(format!(
                "its L1 table has {l1_entries} entries, {} are needed, {MAX_L1_ENTRIES} are possible",
                self.l1_entries_needed()
            )));
        }
        Ok(())
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The number of the disk's clusters.
    pub(super) fn clusters(&self) -> u64 {
        self.bytes.div_ceil(self.cluster_bytes())
    }

    /// The number of entries of an L2 table, which fills a cluster.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / 8
    }

    pub(super) fn l1_entries_needed(&self) -> u64 {
        self.clusters().div_ceil(self.l2_entries())
    }

    /// Parses an entry of an L2 table.
    pub(super) fn parse_entry(&self, entry: u64) -> Cluster {
        if entry & COMPRESSED != 0 {
            // The offset takes the low bits, the number of further sectors the rest.
            let offset_bits = 62 - (self.cluster_bits - 8);
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = ((entry & !(COMPRESSED | 1 << 63)) >> offset_bits) + 1;
            return Cluster::Compressed { offset, length: sectors * SECTOR - offset % SECTOR };
        }
        let is_zero = !self.is_version_2 && entry & ZERO != 0;
        match entry & OFFSET_MASK {
            0 => Cluster::Zeros,
            _ if is_zero => Cluster::Zeros,
            offset => Cluster::At(offset),
        }
    }
}

/// Checks the incompatible features of version 3; returns how clusters are compressed.
fn read_features(header: &[u8; COMPRESSION_AT + 1]) -> Result<Compression, Qcow2Error> {
    let features = u64_at(header, 72);
    if features & CORRUPT != 0 {
        return Err(damaged("it is marked as corrupt: repair it with `qemu-img check -r all` first"));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(Qcow2Error::ExternalData);
    }
    if features & EXTENDED_L2 != 0 {
        return Err(Qcow2Error::Unsupported { feature: "extended L2 entries".to_owned() });
    }
    if features & !(CORRUPT | EXTERNAL_DATA | EXTENDED_L2 | HARMLESS) != 0 {
        return Err(Qcow2Error::Unsupported { feature: format!("unknown features ({features:#x})") });
    }
    let states_compression = u64::from(u32_at(header, 100)) > V3_BYTES;
    match header[COMPRESSION_AT] {
        _ if !states_compression => Ok(Compression::Deflate),
        0 => Ok(Compression::Deflate),
        1 => Ok(Compression::Zstd),
        kind => Err(Qcow2Error::Unsupported { feature: format!("compression type {kind}") }),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
