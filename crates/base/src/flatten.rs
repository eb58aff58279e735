//! Copies the content of an image to a raw, sparse file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::file_error::FileError;
use crate::image::{DiskImage, ImageError};
use crate::space::{SpaceError, SpaceGuard};

/// The unit of what is written: a block of zeros becomes a hole.
const BLOCK: u64 = 64 << 10;
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
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
    #[error(transparent)]
    Space(#[from] SpaceError),
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
    let mut space = SpaceGuard::default();
    let mut from = 0;
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
            space.check(disk, block.len())?;
            hasher.update(&number.to_le_bytes()).update(block);
            disk.write_all_at(block, number * BLOCK).map_err(FileError::at("write", path))?;
        }
        // The last block was read as a whole.
        from = range.end.next_multiple_of(BLOCK);
    }
    disk.sync_all().map_err(FileError::at("sync", path))?;
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}
