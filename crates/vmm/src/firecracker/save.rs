//! Saves a machine: both files whole and in their places, or neither.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};

use super::api::{Api, CreateSnapshot};
use super::jail::SHARED_GID;
use super::names;
use super::place::Place;
use crate::{OperationError, SaveKind};

/// What a file is called while it is not whole.
const ENDING: &str = "partial";
/// How much is copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Saves a paused machine.
pub(super) async fn save(
    api: &Api,
    place: &Place,
    state: &Path,
    memory: &Path,
    kind: SaveKind,
) -> Result<(), OperationError> {
    // The state is last: where it is, all is.
    let files =
        [Saved::plan(place, memory, names::NEW_MEMORY)?, Saved::plan(place, state, names::NEW_STATE)?];
    let done = write(api, &files, kind).await;
    if done.is_err() {
        files.iter().for_each(Saved::forget);
    }
    done
}

async fn write(api: &Api, files: &[Saved; 2], kind: SaveKind) -> Result<(), OperationError> {
    let [memory, state] = files;
    // A diff is laid over a file that is there already.
    files.iter().try_for_each(|file| file.made_room().map_err(|source| file.failed(source)))?;
    api.create_snapshot(&CreateSnapshot {
        snapshot_type: kind,
        snapshot_path: state.asked.clone(),
        mem_file_path: memory.asked.clone(),
    })
    .await?;
    for file in files {
        let file = file.clone();
        // What comes from a jail on another filesystem is copied.
        let put = tokio::task::spawn_blocking(move || file.put().map_err(|source| file.failed(source)));
        put.await.map_err(|_| OperationError::Gone)??;
    }
    Ok(())
}

/// A file that is being saved.
#[derive(Debug, Clone)]
struct Saved {
    /// What Firecracker is to call it.
    asked: String,
    /// Where it writes it.
    written: PathBuf,
    /// Where it is to be.
    wanted: PathBuf,
    jailed: bool,
}

impl Saved {
    /// A prisoner writes in its jail, whoever is free beside the place.
    fn plan(place: &Place, wanted: &Path, name: &str) -> Result<Self, OperationError> {
        let wanted = std::path::absolute(wanted).unwrap_or_else(|_| wanted.to_owned());
        if place.jail().is_some() {
            let written = place.root().join(name);
            return Ok(Self { asked: name.to_owned(), written, wanted, jailed: true });
        }
        let written = partial(&wanted);
        match written.to_str().map(str::to_owned) {
            Some(asked) => Ok(Self { asked, written, wanted, jailed: false }),
            // The API speaks text.
            None => Err(OperationError::File { path: wanted, source: io::ErrorKind::InvalidFilename.into() }),
        }
    }

    fn failed(&self, source: io::Error) -> OperationError {
        OperationError::File { path: self.wanted.clone(), source }
    }

    fn made_room(&self) -> io::Result<()> {
        for path in [self.written.clone(), partial(&self.wanted)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&self) -> io::Result<()> {
        if !self.jailed {
            return fs::rename(&self.written, &self.wanted);
        }
        let partial = partial(&self.wanted);
        match fs::rename(&self.written, &partial) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy(&open_plain(&self.written)?, &partial)?;
            }
            other => other?,
        }
        let file = open_plain(&partial)?;
        std::os::unix::fs::fchown(&file, Some(0), Some(SHARED_GID))?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        fs::rename(&partial, &self.wanted)
    }

    /// Leaves nothing behind.
    fn forget(&self) {
        for path in [&self.written, &partial(&self.wanted), &self.wanted] {
            fs::remove_file(path).ok();
        }
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ENDING);
    path.with_file_name(name)
}

/// A prisoner could have put a link to another file in the place of its own.
fn open_plain(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what was saved is no plain file"))
}

/// Copies what is there of a file, and leaves its holes.
fn copy(from: &fs::File, to: &Path) -> io::Result<()> {
    let to = fs::File::create(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; COPY_BYTES];
    // All of them before anything is read: some filesystems tell of more after that.
    for (start, end) in extents(from, length)? {
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(COPY_BYTES);
            from.read_exact_at(&mut buffer[..wanted], at)?;
            to.write_all_at(&buffer[..wanted], at)?;
            at += wanted as u64;
        }
    }
    to.sync_all()
}

/// All pieces that are no holes.
fn extents(file: &fs::File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let (mut extents, mut at) = (Vec::new(), 0);
    while let Some((start, end)) = next_data(file, at, length)? {
        extents.push((start, end));
        at = end;
    }
    Ok(extents)
}

/// The first piece from `at` on that is no hole.
fn next_data(file: &fs::File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_holes() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = fs::File::options().read(true).write(true).create_new(true).open(dir.path().join("a"));
        let from = from.expect("made");
        from.set_len(8 << 20).expect("sized");
        from.write_all_at(&[7; 4096], 4 << 20).expect("written");
        let to = dir.path().join("b");
        copy(&from, &to).expect("copied");
        let bytes = fs::read(&to).expect("read");
        assert_eq!(bytes.len(), 8 << 20);
        assert!(bytes[4 << 20..][..4096].iter().all(|byte| *byte == 7));
        assert!(fs::metadata(&to).expect("there").blocks() < 1024, "the holes are filled");
    }

    #[test]
    fn a_link_is_no_saved_file() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("secret"), "x").expect("written");
        std::os::unix::fs::symlink("secret", dir.path().join("link")).expect("linked");
        fs::hard_link(dir.path().join("secret"), dir.path().join("twin")).expect("linked");
        assert!(open_plain(&dir.path().join("link")).is_err());
        assert!(open_plain(&dir.path().join("twin")).is_err());
    }
}
