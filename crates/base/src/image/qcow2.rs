//! Reads qcow2 files, as QEMU's docs/interop/qcow2.txt describes them. What would lead to other files (backing files,
//! external data files) is refused.
//!
//! The crate imago reads qcow2 too, but no clusters that are compressed with zstd, and it cannot say in advance
//! whether all clusters lie in the file.

mod header;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

pub(super) use header::MAGIC;
use header::{Compression, Header};

/// Bits of the tables' entries that hold an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// In an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// In an L2 entry of version 3: the cluster reads as zeros, whatever its offset.
const ZERO: u64 = 1;
/// The unit of a compressed cluster's length.
const SECTOR: u64 = 512;

/// Why a qcow2 file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Qcow2Error {
    /// The file has a backing file.
    #[error("it has a backing file, which is not read: merge both with `qemu-img convert -O qcow2` first")]
    BackingFile,
    /// Its data are in another file.
    #[error(
        "its data are in another file, which is not read: merge both with `qemu-img convert -O qcow2` first"
    )]
    ExternalData,
    /// The image is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// It needs a feature that is not supported.
    #[error("it uses {feature}, which is not supported: convert it with `qemu-img convert -O raw` first")]
    Unsupported {
        /// The feature.
        feature: String,
    },
    /// The disk is too large.
    #[error("the disk has {bytes} bytes, at most {max} are supported")]
    TooLarge {
        /// The disk's size.
        bytes: u64,
        /// The largest size.
        max: u64,
    },
    /// A structure contradicts the format.
    #[error("it is damaged: {problem}")]
    Damaged {
        /// What is wrong.
        problem: String,
    },
    /// Something lies beyond the end of the file.
    #[error("it is truncated: {what} ends at byte {end}, but the file has only {length} bytes")]
    Truncated {
        /// What should be there.
        what: &'static str,
        /// Where it would end.
        end: u64,
        /// The file's size.
        length: u64,
    },
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
}

fn damaged(problem: impl Into<String>) -> Qcow2Error {
    Qcow2Error::Damaged { problem: problem.into() }
}

/// A qcow2 file.
#[derive(Debug)]
pub(super) struct Qcow2 {
    file: File,
    /// The file's size.
    length: u64,
    header: Header,
    l1: Vec<u64>,
    /// The L2 table that was used last, by its index in the L1 table.
    l2: Option<(usize, Vec<u64>)>,
    /// The compressed cluster that was read last, by its number.
    decompressed: Option<(u64, Vec<u8>)>,
}

/// Where a cluster's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Zeros,
    At(u64),
    Compressed { offset: u64, length: u64 },
}

impl Qcow2 {
    /// Opens the file, and checks that all of its clusters lie in it.
    pub(super) fn open(file: File, max_bytes: u64) -> Result<Self, Qcow2Error> {
        let length = file.metadata()?.len();
        let header = Header::read(&file, length, max_bytes)?;
        let l1 = read_table(&file, length, "the L1 table", header.l1_offset, header.l1_entries_needed())?;
        let mut this = Self { file, length, header, l1, l2: None, decompressed: None };
        this.check_clusters()?;
        Ok(this)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.header.bytes
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills the buffer from the disk's content at `offset`. The caller has checked the range.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<(), Qcow2Error> {
        let size = self.header.cluster_bytes();
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let within = at % size;
            let count = (buffer.len() - done).min((size - within) as usize);
            self.read_in_cluster(at / size, within, &mut buffer[done..done + count])?;
            done += count;
        }
        Ok(())
    }

    fn read_in_cluster(&mut self, number: u64, within: u64, buffer: &mut [u8]) -> Result<(), Qcow2Error> {
        match self.cluster(number)? {
            Cluster::Zeros => buffer.fill(0),
            Cluster::At(offset) => self.file.read_exact_at(buffer, offset + within)?,
            Cluster::Compressed { offset, length } => {
                if self.decompressed.as_ref().is_none_or(|(cached, _)| *cached != number) {
                    self.decompressed = Some((number, self.decompress(offset, length)?));
                }
                let content = self.decompressed.as_ref().map_or(&[][..], |(_, content)| content);
                buffer.copy_from_slice(&content[within as usize..within as usize + buffer.len()]);
            }
        }
        Ok(())
    }

    /// The first range at or after `from` whose clusters are allocated; it ends at the latest where an L2 table ends.
    pub(super) fn next_data(&mut self, from: u64) -> Result<Option<Range<u64>>, Qcow2Error> {
        let size = self.header.cluster_bytes();
        let clusters = self.header.clusters();
        let per_table = self.header.l2_entries();
        // The last cluster may extend beyond the disk's end.
        let mut number = if from < self.header.bytes { from / size } else { clusters };
        while number < clusters {
            let table_end = clusters.min((number / per_table + 1) * per_table);
            let has_table = self.l1[(number / per_table) as usize] & OFFSET_MASK != 0;
            if has_table && let Some(run) = self.next_run(number..table_end)? {
                return Ok(Some((run.start * size).max(from)..(run.end * size).min(self.header.bytes)));
            }
            number = table_end;
        }
        Ok(None)
    }

    /// The first clusters in a row that hold data, among those of one L2 table.
    fn next_run(&mut self, clusters: Range<u64>) -> Result<Option<Range<u64>>, Qcow2Error> {
        let mut start = None;
        for number in clusters.clone() {
            match (self.cluster(number)?, start) {
                (Cluster::Zeros, None) => {}
                (Cluster::Zeros, Some(start)) => return Ok(Some(start..number)),
                (_, None) => start = Some(number),
                (_, Some(_)) => {}
            }
        }
        Ok(start.map(|start| start..clusters.end))
    }

    /// Where the content of a cluster of the disk is.
    fn cluster(&mut self, number: u64) -> Result<Cluster, Qcow2Error> {
        let per_table = self.header.l2_entries();
        let table = (number / per_table) as usize;
        if self.l1[table] & OFFSET_MASK == 0 {
            return Ok(Cluster::Zeros);
        }
        self.load_l2(table)?;
        let entries = self.l2.as_ref().map_or(&[][..], |(_, entries)| entries);
        Ok(self.header.parse_entry(entries[(number % per_table) as usize]))
    }

    fn load_l2(&mut self, table: usize) -> Result<(), Qcow2Error> {
        if self.l2.as_ref().is_none_or(|(loaded, _)| *loaded != table) {
            let offset = self.l1[table] & OFFSET_MASK;
            let entries =
                read_table(&self.file, self.length, "an L2 table", offset, self.header.l2_entries())?;
            self.l2 = Some((table, entries));
        }
        Ok(())
    }

    /// Checks all tables, so that a truncated file is refused at once. Clusters that are used more than once would
    /// make a large disk of a small file.
    fn check_clusters(&mut self) -> Result<(), Qcow2Error> {
        let size = self.header.cluster_bytes();
        let tables = self.l1.iter().filter(|entry| **entry & OFFSET_MASK != 0).count() as u64;
        if tables.saturating_mul(size) > self.length {
            return Err(damaged("several parts of the disk share an L2 table"));
        }
        let mut used = 0;
        let mut from = 0;
        while let Some(range) = self.next_data(from)? {
            for number in range.start / size..range.end.div_ceil(size) {
                used += self.check_cluster(number)?;
            }
            from = range.end;
        }
        if used > self.length.next_multiple_of(size) {
            return Err(damaged("several parts of the disk share a cluster"));
        }
        Ok(())
    }

    /// Checks that a cluster lies in the file; returns the bytes that it uses, 0 if it is compressed.
    fn check_cluster(&mut self, number: u64) -> Result<u64, Qcow2Error> {
        let size = self.header.cluster_bytes();
        let (end, used) = match self.cluster(number)? {
            Cluster::Zeros => return Ok(0),
            Cluster::At(offset) if !offset.is_multiple_of(size) => {
                return Err(damaged(format!("cluster {number} is not aligned")));
            }
            // The last cluster of the disk may end early.
            Cluster::At(offset) => (offset + size.min(self.header.bytes - number * size), size),
            // The length is rounded up to a sector.
            Cluster::Compressed { offset, length } => (offset + length.saturating_sub(SECTOR - 1).max(1), 0),
        };
        check_end(self.length, "a cluster", end)?;
        Ok(used)
    }

    /// Reads and decompresses a cluster.
    fn decompress(&self, offset: u64, length: u64) -> Result<Vec<u8>, Qcow2Error> {
        // The last one may end with the file, before the end of its last sector.
        let length = length.min(self.length.saturating_sub(offset));
        let mut packed = vec![0; length as usize];
        self.file.read_exact_at(&mut packed, offset)?;
        let mut content = vec![0; self.header.cluster_bytes() as usize];
        let unpacked = match self.header.compression {
            Compression::Deflate => flate2::read::DeflateDecoder::new(&packed[..]).read_exact(&mut content),
            Compression::Zstd => unpack_zstd(&packed, &mut content),
        };
        unpacked.map_err(|error| {
            damaged(format!("the cluster at byte {offset} cannot be decompressed: {error}"))
        })?;
        Ok(content)
    }
}

fn unpack_zstd(packed: &[u8], content: &mut [u8]) -> io::Result<()> {
    // What follows the frame belongs to another cluster.
    zstd::Decoder::with_buffer(packed)?.single_frame().read_exact(content)
}

/// Reads a table of big-endian numbers.
fn read_table(
    file: &File,
    length: u64,
    what: &'static str,
    offset: u64,
    entries: u64,
) -> Result<Vec<u64>, Qcow2Error> {
    let end = offset.checked_add(entries * 8).ok_or_else(|| damaged(format!("{what} is out of range")))?;
    check_end(length, what, end)?;
    let mut bytes = vec![0; (entries * 8) as usize];
    file.read_exact_at(&mut bytes, offset)?;
    let (numbers, _) = bytes.as_chunks::<8>();
    Ok(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
}

fn check_end(length: u64, what: &'static str, end: u64) -> Result<(), Qcow2Error> {
    if end > length { Err(Qcow2Error::Truncated { what, end, length }) } else { Ok(()) }
}
