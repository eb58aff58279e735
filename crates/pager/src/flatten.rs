//! Merging a parent's memory and a diff into one flat file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{FileError, Pages, sparse};

/// Writes `target`: the parent's memory with these pages of `diff` on top. The complete file is renamed to
/// `target`, replacing an existing one; it is not synced. Holes of the parent stay holes, and where the
/// filesystem supports it the parent's blocks are shared (`FICLONE`).
///
/// # Errors
/// When a file cannot be read, or the target cannot be created or runs out of space.
pub fn flatten(parent: &Path, diff: &Path, pages: &Pages, target: &Path) -> Result<(), FileError> {
    let base = File::open(parent).map_err(FileError::reading(parent))?;
    let changes = File::open(diff).map_err(FileError::reading(diff))?;
    let folder = target.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder);
    let draft = draft.map_err(FileError::writing(target))?;
    if !clone_blocks(&base, draft.as_file()) {
        let unchanged = sparse::data_pages(&base).map_err(FileError::reading(parent))?.difference(pages);
        copy((parent, &base), &unchanged, (target, draft.as_file()))?;
    }
    copy((diff, &changes), pages, (target, draft.as_file()))?;
    let length = [&base, &changes].map(|file| file.metadata().map(|meta| meta.len()));
    for length in length {
        let length = length.map_err(FileError::reading(parent))?;
        extend_to(draft.as_file(), length).map_err(FileError::writing(target))?;
    }
    draft.persist(target).map_err(|error| FileError::writing(target)(error.error))?;
    Ok(())
}

/// Clones the blocks of `from` into `to`, and returns whether the filesystem supports that.
fn clone_blocks(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

fn extend_to(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

/// Copies pages of one file to the same offsets in another.
fn copy(from: (&Path, &File), pages: &Pages, to: (&Path, &File)) -> Result<(), FileError> {
    let copied = sparse::each_piece(from.1, pages, |offset, piece| {
        to.1.write_all_at(piece, offset).map_err(CopyError::Write)
    });
    copied.map_err(|failed| match failed {
        CopyError::Read(error) => FileError::reading(from.0)(error),
        CopyError::Write(error) => FileError::writing(to.0)(error),
    })
}

/// The failed side of a copy.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
