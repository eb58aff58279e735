//! A writable disk that holds only what differs from another file: an empty qcow2 file over it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::NamedTempFile;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the first table stands for: a cluster of entries for a cluster each, 512 MiB.
const BYTES_PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// What lies in which cluster. The first holds the header, the file's name behind it.
const REFCOUNT_TABLE: u64 = 1;
const REFCOUNT_BLOCK: u64 = 2;
const L1_TABLE: u64 = 3;
const HEADER_BYTES: u32 = 104;
const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 3;
/// Counts of two bytes.
const REFCOUNT_ORDER: u32 = 4;
const REFCOUNT_TABLE_CLUSTERS: u32 = 1;
const NO_ENCRYPTION: u32 = 0;
/// Their number, and where their table would be.
const NO_SNAPSHOTS: [u8; 12] = [0; 12];
/// Those that a reader must know, should know, and must clear.
const NO_FEATURES: [u8; 24] = [0; 24];
/// The extension of the header that says which format the file below has, so that nobody guesses it from its bytes,
/// which a guest wrote.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const SECTOR: u64 = 512;
/// 64 TiB, the largest that is tested. Its tables are 20 clusters, far from what one block of counts has room for.
const MAX_BYTES: u64 = 64 << 40;
/// QEMU's own limit.
const MAX_NAME_BYTES: usize = 1023;

/// The file that an overlay lies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing<'a> {
    /// Its name, relative to the overlay's directory. It is written into the overlay as it is.
    pub name: &'a str,
    /// Its format.
    pub format: BackingFormat,
}

/// How the bytes of a disk lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingFormat {
    /// As they are.
    Raw,
    /// As an overlay of its own.
    Qcow2,
}

impl BackingFormat {
    /// QEMU's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Why no disk was made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The size is 0, above 64 TiB or not of whole sectors.
    #[error("an overlay of {bytes} bytes cannot be made: whole sectors of 512 up to 64 TiB can")]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// The name of the file below is empty, too long, absolute, or one that QEMU takes for an address.
    #[error("{name:?} cannot be the name of the file below an overlay")]
    Name {
        /// The name.
        name: String,
    },
    /// A file of that name exists.
    #[error("{} exists already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes a disk of `virtual_bytes` bytes that reads as `backing` until it is written to: a sparse qcow2 file, of which
/// 12 KiB are on the disk. Time and size do not grow with the disk's. The file below is not looked at: it must have
/// its bytes before the overlay is read, and keep them. The overlay is not synced.
///
/// # Errors
/// When a file of that name exists or cannot be written, or the size or the name is out of range.
pub fn create(path: &Path, backing: &Backing<'_>, virtual_bytes: u64) -> Result<(), OverlayError> {
    if !(SECTOR..=MAX_BYTES).contains(&virtual_bytes) || !virtual_bytes.is_multiple_of(SECTOR) {
        return Err(OverlayError::Size { bytes: virtual_bytes });
    }
    if !is_valid_name(backing.name) {
        return Err(OverlayError::Name { name: backing.name.to_owned() });
    }
    let draft = create_draft(path)?;
    write(draft.as_file(), backing, virtual_bytes).map_err(write_error(path))?;
    persist(draft, path)
}

/// Makes `to` a copy of `from` that shares its blocks until one of them is written to. False: the filesystem
/// cannot, and nothing was made.
///
/// # Errors
/// When `from` cannot be opened, or `to` exists or cannot be written.
pub fn reflink(from: &Path, to: &Path) -> Result<bool, OverlayError> {
    let source = File::open(from).map_err(|source| OverlayError::Read { path: from.to_owned(), source })?;
    let draft = create_draft(to)?;
    match rustix::fs::ioctl_ficlone(draft.as_file(), &source) {
        Ok(()) => persist(draft, to).map(|()| true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(write_error(to)(error.into())),
    }
}

/// QEMU takes a name with a colon for a protocol's, `json:` among them.
fn is_valid_name(name: &str) -> bool {
    let valid_length = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    valid_length && !name.starts_with('/') && !name.contains([':', '\0'])
}

fn create_draft(path: &Path) -> Result<NamedTempFile, OverlayError> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".draft-").tempfile_in(folder).map_err(write_error(path))
}

fn persist(draft: NamedTempFile, path: &Path) -> Result<(), OverlayError> {
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(OverlayError::Exists { path: path.to_owned() })
        }
        Err(failed) => Err(write_error(path)(failed.error)),
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> OverlayError {
    let path = path.to_owned();
    move |source| OverlayError::Write { path, source }
}

/// The header, the table of counts, the counts of the clusters in use, and an empty first table, which is a hole.
fn write(file: &File, backing: &Backing<'_>, virtual_bytes: u64) -> io::Result<()> {
    let l1_entries = virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY);
    let clusters = L1_TABLE + (l1_entries * 8).div_ceil(CLUSTER);
    file.set_len(clusters * CLUSTER)?;
    file.write_all_at(&header(backing, virtual_bytes, l1_entries), 0)?;
    file.write_all_at(&(REFCOUNT_BLOCK * CLUSTER).to_be_bytes(), REFCOUNT_TABLE * CLUSTER)?;
    let counts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    file.write_all_at(&counts, REFCOUNT_BLOCK * CLUSTER)
}

/// As QEMU's docs/interop/qcow2.txt has it; all numbers are big-endian.
fn header(backing: &Backing<'_>, virtual_bytes: u64, l1_entries: u64) -> Vec<u8> {
    let extensions = extensions(backing.format);
    let name_at = u64::from(HEADER_BYTES) + extensions.len() as u64;
    [
        &MAGIC[..],
        &VERSION.to_be_bytes(),
        &name_at.to_be_bytes(),
        &(backing.name.len() as u32).to_be_bytes(),
        &CLUSTER_BITS.to_be_bytes(),
        &virtual_bytes.to_be_bytes(),
        &NO_ENCRYPTION.to_be_bytes(),
        &(l1_entries as u32).to_be_bytes(),
        &(L1_TABLE * CLUSTER).to_be_bytes(),
        &(REFCOUNT_TABLE * CLUSTER).to_be_bytes(),
        &REFCOUNT_TABLE_CLUSTERS.to_be_bytes(),
        &NO_SNAPSHOTS,
        &NO_FEATURES,
        &REFCOUNT_ORDER.to_be_bytes(),
        &HEADER_BYTES.to_be_bytes(),
        &extensions,
        backing.name.as_bytes(),
    ]
    .concat()
}

/// The format of the file below, padded to 8 bytes, and the mark that no more extensions follow.
fn extensions(format: BackingFormat) -> Vec<u8> {
    let name = format.as_str();
    let mut bytes = [BACKING_FORMAT, name.len() as u32].map(u32::to_be_bytes).concat();
    bytes.extend(name.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8) + 8, 0);
    bytes
}
