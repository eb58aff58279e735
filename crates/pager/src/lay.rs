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
pub fn lay(parent: &Path, diff: &Path, pages: &Pages, target: &Path) -> Result<(), FileError> {
    let base = File::open(parent).map_err(FileError::reading(parent))?;
    let over = File::open(diff).map_err(FileError::reading(diff))?;
    let folder = target.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder);
    let draft = draft.map_err(FileError::writing(target))?;
    if !shared(&base, draft.as_file()) {
        let kept = sparse::data(&base).map_err(FileError::reading(parent))?.minus(pages);
        copy((parent, &base), &kept, (target, draft.as_file()))?;
    }
    copy((diff, &over), pages, (target, draft.as_file()))?;
    let length = [&base, &over].map(|file| file.metadata().map(|meta| meta.len()));
    for length in length {
        let least = length.map_err(FileError::reading(parent))?;
        lengthen(draft.as_file(), least).map_err(FileError::writing(target))?;
    }
    draft.persist(target).map_err(|error| FileError::writing(target)(error.error))?;
    Ok(())
}

/// Clones the blocks of `from` into `to`, and returns whether the filesystem supports that.
fn shared(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

fn lengthen(file: &File, least: u64) -> io::Result<()> {
    if file.metadata()?.len() < least { file.set_len(least) } else { Ok(()) }
}

/// Copies pages of one file to the same offsets in another.
fn copy(from: (&Path, &File), pages: &Pages, to: (&Path, &File)) -> Result<(), FileError> {
    let copied = sparse::each_piece(from.1, pages, |offset, piece| {
        to.1.write_all_at(piece, offset).map_err(Failed::Write)
    });
    copied.map_err(|failed| match failed {
        Failed::Read(error) => FileError::reading(from.0)(error),
        Failed::Write(error) => FileError::writing(to.0)(error),
    })
}

/// The failed side of a copy.
enum Failed {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
