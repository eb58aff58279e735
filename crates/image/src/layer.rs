//! Reads one layer: a compressed tar file becomes a list of entries and a spool of their contents.

mod acl;
mod compression;
mod entry;
mod meter;
mod numbers;
mod pax;
mod spool;
mod tar_stream;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::digest::Digest;
use crate::manifest;

pub(crate) use entry::{Content, Entry, Kind, Meta, Xattr};
pub(crate) use meter::Budget;
pub(crate) use spool::Spool;

use compression::Compression;
pub use compression::decompress;
use meter::Metered;
use tar_stream::TarStream;

/// Why an image's layer is refused. Names the layer's digest, and the entry if there is one.
#[derive(Debug, thiserror::Error)]
#[error("layer {layer} is refused{}", entry_suffix(.entry))]
pub struct LayerError {
    /// Digest of the layer as the manifest names it.
    pub layer: Digest,
    /// The entry at fault, as the tar file names it.
    pub entry: Option<String>,
    /// What is wrong.
    #[source]
    pub problem: Box<LayerProblem>,
}

fn entry_suffix(entry: &Option<String>) -> String {
    entry.as_ref().map(|path| format!(" at entry {path:?}")).unwrap_or_default()
}

impl LayerError {
    pub(crate) fn new(layer: Digest, entry: Option<String>, problem: LayerProblem) -> Self {
        Self { layer, entry, problem: Box::new(problem) }
    }
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerProblem {
    /// A path contains `..`.
    #[error("its path contains '..'")]
    Climbs,
    /// A hard link's target contains `..`.
    #[error("its hard link's target {target:?} contains '..'")]
    LinkClimbs {
        /// The target, as in the entry.
        target: String,
    },
    /// A hard link's target does not exist.
    #[error("its hard link's target {target:?} does not exist in the image")]
    LinkMissing {
        /// The target, as in the entry.
        target: String,
    },
    /// A hard link's target is a directory.
    #[error("its hard link's target {target:?} is a directory")]
    LinkToDirectory {
        /// The target, as in the entry.
        target: String,
    },
    /// ext4 counts links in 16 bits.
    #[error("its hard link's target {target:?} has more than 65000 names")]
    TooManyNames {
        /// The target, as in the entry.
        target: String,
    },
    /// A path component other than the last is not a directory.
    #[error("its parent {path:?} is not a directory")]
    NotADirectory {
        /// The parent.
        path: String,
    },
    /// A path that follows too many symbolic links, usually a loop.
    #[error("its path follows more than {limit} symbolic links")]
    TooManyLinks {
        /// The limit.
        limit: usize,
    },
    /// A name is too long.
    #[error("a name of {bytes} bytes is over the limit of {limit}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A name contains a zero byte, or a symbolic link's target is empty.
    #[error("a name in it is empty or contains a zero byte")]
    BadName,
    /// A whiteout whose name is not a valid file name.
    #[error("it is a whiteout of an invalid name")]
    BadWhiteout,
    /// ext4 reserves `lost+found` in the root directory.
    #[error("'lost+found' at the top of an image can only be an empty directory")]
    LostFound,
    /// An entry for the root that is not a directory.
    #[error("the root of an image can only be a directory")]
    Root,
    /// All layers together have too many entries.
    #[error("the image has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// All layers together have too many bytes.
    #[error("the image unpacks to more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A compression bomb.
    #[error("{compressed} compressed bytes unpack to more than {ratio} times as many")]
    Bomb {
        /// The layer's size as stored.
        compressed: u64,
        /// The limit.
        ratio: u64,
    },
    /// The tar or its compression ends too early.
    #[error("it ends too early")]
    Truncated,
    /// An invalid tar header.
    #[error("its tar header is invalid: {detail}")]
    BadHeader {
        /// The field.
        detail: &'static str,
    },
    /// An invalid PAX record.
    #[error("its PAX record is invalid: {detail}")]
    BadPax {
        /// The record or the violated rule.
        detail: &'static str,
    },
    /// An entry of a type that images do not use.
    #[error("its type {kind:?} is unknown")]
    UnknownType {
        /// The type byte.
        kind: char,
    },
    /// Neither tar nor gzip nor zstd.
    #[error("its compression is unknown: only tar, gzip and zstd are supported")]
    UnknownCompression,
    /// The compressed stream is broken.
    #[error("it cannot be decompressed")]
    BadCompression(#[source] std::io::Error),
    /// Device numbers that ext4 cannot store.
    #[error("its device numbers {major}:{minor} are out of range")]
    Device {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// More extended attributes than ext4 can store.
    #[error("its extended attributes take {bytes} bytes, over the limit of {limit}")]
    XattrsTooLarge {
        /// Their size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The uncompressed layer has another digest than the image's configuration says.
    #[error("its content has the digest {actual} where the image's configuration says {expected}")]
    WrongDiffId {
        /// As the configuration says.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// A host file cannot be read or written.
    #[error("{path} cannot be read or written")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A layer that has been read: its entries, and the spool with the contents of its files.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) entries: Vec<Entry>,
    pub(crate) spool: Spool,
}

/// The layer that [`read`] reads.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) blob: &'a Path,
    pub(crate) digest: Digest,
    /// The required digest of the uncompressed bytes, if the image states it.
    pub(crate) diff_id: Option<Digest>,
    pub(crate) spool_dir: &'a Path,
    pub(crate) budget: &'a Budget,
}

/// Reads a layer's blob to its end and verifies its diff id.
pub(crate) fn read(request: &Request<'_>) -> Result<Layer, LayerError> {
    let refuse = |(entry, problem)| LayerError::new(request.digest, entry, problem);
    let mut spool = Spool::create(request.spool_dir).map_err(|p| refuse((None, p)))?;
    let stream = open(request).map_err(|p| refuse((None, p)))?;
    let mut tar = TarStream::new(stream, &mut spool, request.budget);
    let entries = tar.entries().map_err(|problem| refuse((tar.current(), problem)))?;
    let diff_id = tar.into_inner().finish().map_err(|p| refuse((None, p)))?;
    check_diff_id(request.diff_id, diff_id).map_err(|p| refuse((None, p)))?;
    Ok(Layer { digest: request.digest, entries, spool })
}

/// Computes the digest of a layer's uncompressed bytes, without parsing them.
pub(crate) fn diff_id(blob: &Path, digest: Digest, budget: &Budget) -> Result<Digest, LayerError> {
    let request = Request { blob, digest, diff_id: None, spool_dir: blob, budget };
    let read = open(&request).and_then(Metered::finish);
    read.map_err(|problem| LayerError::new(digest, None, problem))
}

/// Whether a file is compressed, in a format that is supported or not. Leaves it at its start.
pub(crate) fn is_compressed(file: &mut File) -> io::Result<bool> {
    Ok(compression::of_file(file)? != Compression::Plain)
}

/// The OCI media type of a layer, by its content.
pub(crate) fn media_type(blob: &Path) -> io::Result<String> {
    let suffix = match compression::of_file(&mut File::open(blob)?)? {
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
        Compression::Plain | Compression::Unknown => "",
    };
    Ok(format!("{}{suffix}", manifest::LAYER))
}

/// Writes a file's uncompressed bytes to `out`. Returns their digest and number. The budget bounds them.
pub(crate) fn unpack(
    file: File,
    out: &mut impl Write,
    budget: &Budget,
) -> Result<(Digest, u64), LayerProblem> {
    let io = |source| LayerProblem::Io { path: "the file".to_owned(), source };
    let compressed = file.metadata().map_err(io)?.len();
    let mut input = Metered::new(compression::decoder(file).map_err(io)??, compressed, budget);
    let mut buf = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match input.read_some(&mut buf)? {
            0 => return Ok((input.finish()?, total)),
            n => out
                .write_all(&buf[..n])
                .map_err(|source| LayerProblem::Io { path: "a copy of it".to_owned(), source })?,
        }
        total = input.unpacked();
    }
}

/// A name of a layer in an error message.
pub(crate) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn open<'a>(request: &Request<'a>) -> Result<Metered<'a, Box<dyn Read>>, LayerProblem> {
    let io = |source| LayerProblem::Io { path: request.blob.display().to_string(), source };
    let file = File::open(request.blob).map_err(io)?;
    let compressed = file.metadata().map_err(io)?.len();
    Ok(Metered::new(compression::decoder(file).map_err(io)??, compressed, request.budget))
}

fn check_diff_id(expected: Option<Digest>, actual: Digest) -> Result<(), LayerProblem> {
    match expected {
        Some(expected) if expected != actual => Err(LayerProblem::WrongDiffId { expected, actual }),
        _ => Ok(()),
    }
}
