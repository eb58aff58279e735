//! Empty writable disks for machines.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use mkext4::{FsBuilder, InodeCount, Options};

use crate::disk_copy;
use crate::ext4::SparseSink;

const BLOCK: u64 = 4096;
/// Smallest size of an ext4 filesystem with a journal.
const MIN_BYTES: u64 = 16 << 20;
/// mke2fs's default ratio.
const BYTES_PER_INODE: u64 = 16 << 10;
/// 32 MiB. The journal uses host disk space only as far as a guest has written it, so this bounds what a busy
/// guest adds to an otherwise small disk.
const JOURNAL_BLOCKS: u32 = 8192;
/// Must be raised when the output of [`create`] changes, so that old templates are not used.
const TEMPLATE_FORMAT: &str = "blank-1";
/// A constant suffices: a machine has only one such disk.
const TEMPLATE_UUID: [u8; 16] = *b"mimeo\0\x80\x00\x80\x00blank\0";

/// Why no disk was created. A partial file is removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlankError {
    /// The size is below 16 MiB or above 16 TiB.
    #[error("cannot create a disk of {bytes} bytes: the size must be between 16 MiB and 16 TiB")]
    Size {
        /// The requested size.
        bytes: u64,
    },
    /// A file of that name exists.
    #[error("{} exists already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The filesystem cannot be created.
    #[error("cannot create a filesystem in {}", path.display())]
    Layout {
        /// The path.
        path: PathBuf,
        /// Why.
        source: mkext4::Error,
    },
}

/// Creates a disk like [`create`], but copies the few non-zero blocks from a template in `templates`. The template is
/// created if there is none of that size. Takes constant time: about half a millisecond, where formatting 100 GiB takes
/// 50. All disks of one size have the same UUID.
///
/// # Errors
/// As [`create`].
pub fn create_from_template(templates: &Path, path: &Path, bytes: u64) -> Result<(), BlankError> {
    let template = templates.join(format!("{TEMPLATE_FORMAT}-{bytes}.ext4"));
    let from = match File::open(&template) {
        Ok(from) => from,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_template(templates, &template, bytes)?
        }
        Err(source) => return Err(BlankError::Write { path: template, source }),
    };
    let to = create_new(path)?;
    disk_copy::copy_data(&from, &to).map_err(|source| {
        disk_copy::discard(path);
        BlankError::Write { path: path.to_owned(), source }
    })
}

/// Creates a template. Two processes that do so concurrently create the same file.
fn create_template(folder: &Path, template: &Path, bytes: u64) -> Result<File, BlankError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| BlankError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(fail(folder))?;
    let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(folder).map_err(fail(folder))?;
    let made = draft.path().join("disk");
    create(&made, bytes, TEMPLATE_UUID)?;
    // A template that is half written after a host crash would corrupt every disk created from it.
    let file = File::open(&made).map_err(fail(&made))?;
    file.sync_all().map_err(fail(&made))?;
    std::fs::rename(&made, template).map_err(fail(template))?;
    Ok(file)
}

/// Creates an empty ext4 filesystem with a journal in a new sparse file of `bytes` bytes, rounded up to 4096.
///
/// `uuid` is the filesystem's UUID. The file is not synced: if the host crashes before the machine has started, its
/// disk is lost. Time grows with the size, 2 to 7 ms for 10 GiB; that of [`create_from_template`] does not.
///
/// # Errors
/// When the file exists or cannot be written, or the size is out of range.
pub fn create(path: &Path, bytes: u64, uuid: [u8; 16]) -> Result<(), BlankError> {
    let size = bytes.checked_next_multiple_of(BLOCK).filter(|size| (MIN_BYTES..16 << 40).contains(size));
    let size = size.ok_or(BlankError::Size { bytes })?;
    let file = create_new(path)?;
    format(&file, size, uuid).map_err(|source| {
        disk_copy::discard(path);
        BlankError::Layout { path: path.to_owned(), source }
    })
}

fn create_new(path: &Path) -> Result<File, BlankError> {
    let path_owned = || path.to_owned();
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => BlankError::Exists { path: path_owned() },
        _ => BlankError::Write { path: path_owned(), source },
    })
}

fn format(file: &File, size: u64, uuid: [u8; 16]) -> mkext4::Result<()> {
    let mut options = Options::new(size, uuid, 0);
    options.reserved_percent = 0;
    options.inodes = InodeCount::Exact(u32::try_from(size / BYTES_PER_INODE).unwrap_or(u32::MAX));
    options.journal_blocks = Some(journal_blocks(size));
    let layout = FsBuilder::new(options)?.seal()?;
    file.set_len(layout.image_len())?;
    layout.writer(SparseSink::new(file))?.finish().map(drop)
}

/// A sixteenth of a small disk, but at least ext4's minimum of 1024 blocks.
fn journal_blocks(size: u64) -> u32 {
    let share = u32::try_from(size / BLOCK / 16).unwrap_or(u32::MAX);
    share.clamp(1024, JOURNAL_BLOCKS)
}
