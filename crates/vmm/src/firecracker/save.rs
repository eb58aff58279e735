//! Saves a machine: both files complete and in place, or neither.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};

use super::api::{Api, CreateSnapshot};
use super::jail::SHARED_GID;
use super::layout::Layout;
use super::names;
use crate::{OperationError, SaveKind, cleanup};

/// The suffix of an incomplete file.
const PARTIAL_SUFFIX: &str = "partial";
/// Bytes to copy at a time.
const COPY_BYTES: usize = 1 << 20;

/// Saves a paused machine.
pub(super) async fn save(
    api: &Api,
    layout: &Layout,
    state: &Path,
    memory: &Path,
    kind: SaveKind,
) -> Result<(), OperationError> {
    // The state is installed last: if it exists, everything does.
    let files = [
        OutputFile::plan(layout, memory, names::NEW_MEMORY)?,
        OutputFile::plan(layout, state, names::NEW_STATE)?,
    ];
    let result = write(api, &files, kind).await;
    if result.is_err() {
        files.iter().for_each(OutputFile::discard);
    }
    result
}

async fn write(api: &Api, files: &[OutputFile; 2], kind: SaveKind) -> Result<(), OperationError> {
    let [memory, state] = files;
    // Firecracker would write a diff over an existing file.
    files.iter().try_for_each(|file| file.remove_stale().map_err(|source| file.failed(source)))?;
    api.create_snapshot(&CreateSnapshot {
        snapshot_type: kind,
        snapshot_path: state.api_path.clone(),
        mem_file_path: memory.api_path.clone(),
    })
    .await?;
    for file in files {
        let file = file.clone();
        // Blocking: a file from a jail on another filesystem is copied.
        let installed =
            tokio::task::spawn_blocking(move || file.install().map_err(|source| file.failed(source)));
        installed.await.map_err(|_| OperationError::Gone)??;
    }
    Ok(())
}

/// A file to be saved.
#[derive(Debug, Clone)]
struct OutputFile {
    /// The path in the API request.
    api_path: String,
    /// The path that Firecracker writes to.
    temporary_path: PathBuf,
    /// The final path.
    destination: PathBuf,
    jailed: bool,
}

impl OutputFile {
    /// A jailed Firecracker writes in its jail, others beside the destination.
    fn plan(layout: &Layout, destination: &Path, name: &str) -> Result<Self, OperationError> {
        let destination = std::path::absolute(destination).unwrap_or_else(|_| destination.to_owned());
        if layout.jail().is_some() {
            let temporary_path = layout.root().join(name);
            return Ok(Self { api_path: name.to_owned(), temporary_path, destination, jailed: true });
        }
        let temporary_path = partial_path(&destination);
        match temporary_path.to_str().map(str::to_owned) {
            Some(api_path) => Ok(Self { api_path, temporary_path, destination, jailed: false }),
            // Paths in the API must be UTF-8.
            None => {
                Err(OperationError::File { path: destination, source: io::ErrorKind::InvalidFilename.into() })
            }
        }
    }

    fn failed(&self, source: io::Error) -> OperationError {
        OperationError::File { path: self.destination.clone(), source }
    }

    fn remove_stale(&self) -> io::Result<()> {
        for path in [self.temporary_path.clone(), partial_path(&self.destination)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn install(&self) -> io::Result<()> {
        if !self.jailed {
            return fs::rename(&self.temporary_path, &self.destination);
        }
        let partial = partial_path(&self.destination);
        match fs::rename(&self.temporary_path, &partial) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy_data(&open_regular_file(&self.temporary_path)?, &partial)?;
            }
            other => other?,
        }
        let file = open_regular_file(&partial)?;
        std::os::unix::fs::fchown(&file, Some(0), Some(SHARED_GID))?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        fs::rename(&partial, &self.destination)
    }

    /// Removes the file in all places.
    fn discard(&self) {
        for path in [&self.temporary_path, &partial_path(&self.destination), &self.destination] {
            cleanup::remove_file(path);
        }
    }
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(PARTIAL_SUFFIX);
    path.with_file_name(name)
}

/// Refuses links: a jailed Firecracker could have replaced its file with a link to another one.
fn open_regular_file(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the saved file is not a regular file"))
}

/// Copies the data of a file, and keeps its holes.
fn copy_data(from: &fs::File, to: &Path) -> io::Result<()> {
    let to = fs::File::create(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; COPY_BYTES];
    // List all extents before any is read: some filesystems report more of them after a read.
    for (start, end) in extents(from, length)? {
        let mut at = start;
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(COPY_BYTES);
            from.read_exact_at(&mut buffer[..count], at)?;
            to.write_all_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
    to.sync_all()
}

/// All extents with data.
fn extents(file: &fs::File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let (mut extents, mut at) = (Vec::new(), 0);
    while let Some((start, end)) = next_data(file, at, length)? {
        extents.push((start, end));
        at = end;
    }
    Ok(extents)
}

/// The first extent with data from `at` on.
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
    fn a_copy_keeps_the_holes_of_its_source() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = fs::File::options().read(true).write(true).create_new(true).open(dir.path().join("a"));
        let from = from.expect("made");
        from.set_len(8 << 20).expect("sized");
        from.write_all_at(&[7; 4096], 4 << 20).expect("written");
        let to = dir.path().join("b");
        copy_data(&from, &to).expect("copied");
        let bytes = fs::read(&to).expect("read");
        assert_eq!(bytes.len(), 8 << 20);
        assert!(bytes[4 << 20..][..4096].iter().all(|byte| *byte == 7));
        assert!(fs::metadata(&to).expect("there").blocks() < 1024, "the holes are filled");
    }

    #[test]
    fn links_are_refused_as_saved_files() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("secret"), "x").expect("written");
        std::os::unix::fs::symlink("secret", dir.path().join("link")).expect("linked");
        fs::hard_link(dir.path().join("secret"), dir.path().join("twin")).expect("linked");
        assert!(open_regular_file(&dir.path().join("link")).is_err());
        assert!(open_regular_file(&dir.path().join("twin")).is_err());
    }
}
