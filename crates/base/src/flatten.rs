//! Copies the content of an image to a raw, sparse file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::file_error::FileError;
use crate::image::{DiskImage, ImageError};

/// The unit of what is written: a block of zeros becomes a hole.
const BLOCK: u64 = 64 << 10;
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
/// The free space that is left to others: machines are paused when their disks cannot be written.
const RESERVE_BYTES: u64 = 256 << 20;
/// How much is written between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// Why an image was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlattenError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk is nearly full.
    #[error(
        "insufficient disk space: {available} bytes are left where the base would be, after {written} bytes of it; \
         {RESERVE_BYTES} bytes must stay free for machines: free some space, or set MIMEO_HOME to another disk"
    )]
    Space {
        /// What is left.
        available: u64,
        /// What was written.
        written: u64,
    },
    /// The caller cancelled it.
    #[error("it was cancelled")]
    Cancelled,
}

/// Copies the content of `image` to the empty file `disk` at `path`, without blocks of zeros, and syncs it. Returns the
/// content's digest, as [`crate::Manifest::digest`] defines it.
pub(crate) fn flatten(
    image: &mut DiskImage,
    disk: &File,
    path: &Path,
    cancelled: &AtomicBool,
) -> Result<String, FlattenError> {
    let bytes = image.bytes();
    disk.set_len(bytes).map_err(FileError::at("set the size of", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    let mut buffer = vec![0; BLOCK as usize];
    let (mut from, mut written) = (0, 0);
    while let Some(range) = image.next_data(from)? {
        let first = range.start / BLOCK;
        for number in first..range.end.div_ceil(BLOCK) {
            if cancelled.load(Ordering::Relaxed) {
                return Err(FlattenError::Cancelled);
            }
            let block = &mut buffer[..BLOCK.min(bytes - number * BLOCK) as usize];
            image.read_at(block, number * BLOCK)?;
            if *block == ZEROS[..block.len()] {
                continue;
            }
            if written % SPACE_CHECK_BYTES == 0 {
                check_space(disk, path, written)?;
            }
            hasher.update(&number.to_le_bytes()).update(block);
            disk.write_all_at(block, number * BLOCK).map_err(FileError::at("write", path))?;
            written += BLOCK;
        }
        // The last block was read as a whole.
        from = range.end.next_multiple_of(BLOCK);
    }
    disk.sync_all().map_err(FileError::at("sync", path))?;
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}

fn check_space(disk: &File, path: &Path, written: u64) -> Result<(), FlattenError> {
    let available = available_bytes(disk).map_err(FileError::at("read the free space at", path))?;
    if available < RESERVE_BYTES { Err(FlattenError::Space { available, written }) } else { Ok(()) }
}

/// The free space of the filesystem that a file is on.
fn available_bytes(file: &File) -> rustix::io::Result<u64> {
    let found = rustix::fs::fstatvfs(file)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
