//! qcow2 overlays: writable disks that hold only the differences from a backing file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::NamedTempFile;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes that one L1 entry covers: an L2 table of one cluster, whose entries cover one cluster each; 512 MiB.
const BYTES_PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// Cluster numbers of the tables. Cluster 0 holds the header, followed by the backing file's name.
const REFCOUNT_TABLE: u64 = 1;
const REFCOUNT_BLOCK: u64 = 2;
const L1_TABLE: u64 = 3;
const HEADER_BYTES: u32 = 104;
const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 3;
/// Refcounts of two bytes.
const REFCOUNT_ORDER: u32 = 4;
const REFCOUNT_TABLE_CLUSTERS: u32 = 1;
const NO_ENCRYPTION: u32 = 0;
/// Number of snapshots, and offset of their table.
const NO_SNAPSHOTS: [u8; 12] = [0; 12];
/// Incompatible, compatible and autoclear feature bits.
const NO_FEATURES: [u8; 24] = [0; 24];
/// The header extension that states the backing file's format. Without it QEMU would probe the format from the
/// file's content, which a guest wrote.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const SECTOR: u64 = 512;
/// 64 TiB, the largest tested size. Its tables take 20 clusters, far fewer than one refcount block covers.
const MAX_BYTES: u64 = 64 << 40;
/// QEMU's limit.
const MAX_NAME_BYTES: usize = 1023;

/// The backing file of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing<'a> {
    /// Its name, relative to the overlay's directory. It is written into the overlay unchanged.
    pub name: &'a str,
    /// Its format.
    pub format: BackingFormat,
}

/// The format of a disk file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingFormat {
    /// Raw.
    Raw,
    /// qcow2: the backing file is itself an overlay.
    Qcow2,
}

impl BackingFormat {
    /// QEMU's name of the format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Why no disk was created. No partial file is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The size is 0, above 64 TiB, or not a multiple of 512.
    #[error("cannot create an overlay of {bytes} bytes: the size must be a multiple of 512, up to 64 TiB")]
    Size {
        /// The requested size.
        bytes: u64,
    },
    /// The backing file's name is empty, too long, absolute, or one that QEMU interprets as a protocol.
    #[error("{name:?} is not a valid name for a backing file")]
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

/// Creates an empty overlay of `virtual_bytes` bytes over `backing`: a sparse qcow2 file that uses 12 KiB of disk
/// space. Time and space do not depend on the disk's size. The backing file is not opened: it must be complete before
/// the overlay is read, and must not change afterwards. The overlay is not synced.
///
/// # Errors
/// When the file exists or cannot be written, or the size or the name is invalid.
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

/// Makes `to` a reflink of `from`: both share their blocks until one is written. False if the filesystem does not
/// support it; nothing is created then.
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

/// QEMU interprets a name with a colon as a protocol, such as `json:`.
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

/// Writes the header, the refcount table, the refcounts of the used clusters, and an empty L1 table, which is a hole.
fn write(file: &File, backing: &Backing<'_>, virtual_bytes: u64) -> io::Result<()> {
    let l1_entries = virtual_bytes.div_ceil(BYTES_PER_L1_ENTRY);
    let clusters = L1_TABLE + (l1_entries * 8).div_ceil(CLUSTER);
    file.set_len(clusters * CLUSTER)?;
    file.write_all_at(&header(backing, virtual_bytes, l1_entries), 0)?;
    file.write_all_at(&(REFCOUNT_BLOCK * CLUSTER).to_be_bytes(), REFCOUNT_TABLE * CLUSTER)?;
    let counts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    file.write_all_at(&counts, REFCOUNT_BLOCK * CLUSTER)
}

/// The header, as in QEMU's docs/interop/qcow2.txt; all numbers are big-endian.
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

/// The header extensions: the backing file's format, padded to 8 bytes, and the end mark.
fn extensions(format: BackingFormat) -> Vec<u8> {
    let name = format.as_str();
    let mut bytes = [BACKING_FORMAT, name.len() as u32].map(u32::to_be_bytes).concat();
    bytes.extend(name.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8) + 8, 0);
    bytes
}
