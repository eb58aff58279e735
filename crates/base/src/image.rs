//! Disk images as they are given: a raw file or a qcow2 file, read as one disk. Nothing of them is trusted.

mod qcow2;

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use qcow2::Qcow2;
pub use qcow2::Qcow2Error;

/// The unit of a disk's size.
pub(crate) const SECTOR: u64 = 512;
/// The largest disk: 16 TiB, the largest file of an ext4 filesystem.
const MAX_BYTES: u64 = 16 << 40;
/// The longest of the magic numbers below.
const HEAD_BYTES: usize = 8;

/// Files that are no disk images that mimeo reads, by how they begin, and what to do about them.
const FOREIGN: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "a gzip archive", "decompress it first with `gunzip`"),
    (b"\xfd7zXZ\0", "an xz archive", "decompress it first with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "decompress it first with `unzstd`"),
    (b"BZh", "a bzip2 archive", "decompress it first with `bunzip2`"),
    (b"PK\x03\x04", "a zip archive", "unpack it first with `unzip`"),
    (b"KDMV", "a VMDK image", CONVERT),
    (b"vhdxfile", "a VHDX image", CONVERT),
    (b"conectix", "a VHD image", CONVERT),
    (b"<<< ", "a VDI image", CONVERT),
];
const CONVERT: &str = "convert it first with `qemu-img convert -O raw`";

/// The format of an image's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The disk's content, byte by byte.
    Raw,
    /// QEMU's format, version 2 or 3.
    Qcow2,
}

impl Format {
    /// QEMU's name of the format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Why a file cannot be read as a disk image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The path names no regular file.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file in another format.
    #[error("cannot use {} as a disk image: it is {kind}: {hint}", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The disk's size is not a positive multiple of 512.
    #[error(
        "cannot use {} as a disk image: the disk's size, {bytes} bytes, is not a positive multiple of {SECTOR}: \
         the file is truncated or no disk image", path.display()
    )]
    Size {
        /// The path.
        path: PathBuf,
        /// The disk's size.
        bytes: u64,
    },
    /// The disk is too large.
    #[error("cannot use {} as a disk image: the disk has {bytes} bytes, at most {MAX_BYTES} are supported", path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// The disk's size.
        bytes: u64,
    },
    /// The qcow2 file is refused.
    #[error("cannot use {} as a qcow2 image", path.display())]
    Qcow2 {
        /// The path.
        path: PathBuf,
        /// Why.
        source: Qcow2Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A disk image that is open for reading.
#[derive(Debug)]
pub(crate) struct DiskImage {
    path: PathBuf,
    content: Content,
    bytes: u64,
    stamp: Stamp,
}

#[derive(Debug)]
enum Content {
    Raw(File),
    Qcow2(Box<Qcow2>),
}

/// Tells whether a file was written to: its size, and the time of its last change. The time of the last change of its inode
/// does not tell: a new link changes it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, i64, i64);

impl Stamp {
    fn read(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self(meta.len(), meta.mtime(), meta.mtime_nsec()))
    }
}

impl DiskImage {
    /// Opens an image. For qcow2 all tables are read and checked.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let read_error = |source| ImageError::Read { path: path.to_owned(), source };
        // The open of a FIFO would wait for a writer.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(read_error)?;
        if !file.metadata().map_err(read_error)?.is_file() {
            return Err(ImageError::NotAFile { path: path.to_owned() });
        }
        let stamp = Stamp::read(&file).map_err(read_error)?;
        let head = read_head(&file).map_err(read_error)?;
        if let Some(&(_, kind, hint)) = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Err(ImageError::Foreign { path: path.to_owned(), kind, hint });
        }
        let (content, bytes) = if head.starts_with(&qcow2::MAGIC) {
            let fail = |source| ImageError::Qcow2 { path: path.to_owned(), source };
            let qcow2 = Qcow2::open(file, MAX_BYTES).map_err(fail)?;
            let bytes = qcow2.bytes();
            (Content::Qcow2(Box::new(qcow2)), bytes)
        } else {
            (Content::Raw(file), stamp.0)
        };
        check_size(path, bytes)?;
        Ok(Self { path: path.to_owned(), content, bytes, stamp })
    }

    pub(crate) fn format(&self) -> Format {
        match self.content {
            Content::Raw(_) => Format::Raw,
            Content::Qcow2(_) => Format::Qcow2,
        }
    }

    /// The disk's size.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file is as it was when it was opened.
    pub(crate) fn is_unchanged(&self) -> Result<bool, ImageError> {
        let file = match &self.content {
            Content::Raw(file) => file,
            Content::Qcow2(qcow2) => qcow2.file(),
        };
        Ok(Stamp::read(file).map_err(self.read_error())? == self.stamp)
    }

    /// Fills the buffer from the disk's content at `offset`.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.read_error()(io::ErrorKind::UnexpectedEof.into()));
        }
        match &mut self.content {
            Content::Raw(file) => file.read_exact_at(buffer, offset).map_err(self.read_error()),
            Content::Qcow2(qcow2) => qcow2
                .read_at(buffer, offset)
                .map_err(|source| ImageError::Qcow2 { path: self.path.clone(), source }),
        }
    }

    /// The first range at or after `from` that may hold other bytes than zeros. Ranges that are not allocated in the
    /// file are skipped without being read.
    pub(crate) fn next_data(&mut self, from: u64) -> Result<Option<Range<u64>>, ImageError> {
        match &mut self.content {
            Content::Raw(file) => {
                let range = next_allocated(file, from).map_err(self.read_error())?;
                Ok(range
                    .map(|range| range.start..range.end.min(self.bytes))
                    .filter(|range| !range.is_empty()))
            }
            Content::Qcow2(qcow2) => {
                qcow2.next_data(from).map_err(|source| ImageError::Qcow2 { path: self.path.clone(), source })
            }
        }
    }

    fn read_error(&self) -> impl Fn(io::Error) -> ImageError + use<> {
        let path = self.path.clone();
        move |source| ImageError::Read { path: path.clone(), source }
    }
}

fn check_size(path: &Path, bytes: u64) -> Result<(), ImageError> {
    if bytes > MAX_BYTES {
        return Err(ImageError::TooLarge { path: path.to_owned(), bytes });
    }
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        return Err(ImageError::Size { path: path.to_owned(), bytes });
    }
    Ok(())
}

/// The first bytes of a file, fewer if it is shorter.
fn read_head(file: &File) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The next range of a sparse file that is no hole.
fn next_allocated(file: &File, from: u64) -> io::Result<Option<Range<u64>>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        // There is only a hole until the end.
        Err(Errno::NXIO) => return Ok(None),
        found => found?,
    };
    Ok(Some(start..rustix::fs::seek(file, SeekFrom::Hole(start))?))
}

#[cfg(test)]
mod tests;
