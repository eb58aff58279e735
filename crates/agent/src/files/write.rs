//! Creates or replaces a file.

use std::collections::hash_map::RandomState;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use mimeo_agent_protocol::message::{Failure, FailureKind, NewFile};
use rustix::fs::OFlags;

use super::lookup;
use crate::failure::{Context, SystemError, failure};

/// The mode of a new file.
const MODE: u32 = 0o644;
/// What the names of files that are being written begin with.
const TEMPORARY: &str = ".mimeo-";

/// Creates or replaces a file with this content. It takes the place of the old one when it is complete. A file that is a
/// mount point cannot be replaced: it is overwritten.
pub(super) fn write(file: &NewFile, content: impl Read) -> Result<(), Failure> {
    let path = destination(Path::new(&file.path))?;
    let Some(parent) = path.parent() else {
        return Err(failure(FailureKind::IsADirectory, "cannot write /: it is a directory"));
    };
    super::change::check_parent(parent, file.parents)?;
    let replaced = replaced(&path)?;
    let temporary = Temporary::create(parent)?;
    temporary.fill(content, &path)?;
    temporary.set_attributes(file, replaced.as_ref(), &path)?;
    Ok(temporary.take_place_of(&path)?)
}

/// The file that is written: where a link leads, unless nothing is there.
fn destination(path: &Path) -> Result<PathBuf, SystemError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => match std::fs::canonicalize(path) {
            Err(error) if lookup::is_absent(&error) => Ok(path.to_owned()),
            target => target.context(format!("resolve {}", path.display())),
        },
        _ => Ok(path.to_owned()),
    }
}

/// The metadata of the file that is replaced, if there is one.
fn replaced(path: &Path) -> Result<Option<Metadata>, Failure> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if lookup::is_absent(&error) => return Ok(None),
        metadata => metadata.context(format!("stat {}", path.display()))?,
    };
    match metadata.file_type() {
        kind if kind.is_file() => Ok(Some(metadata)),
        // It leads nowhere.
        kind if kind.is_symlink() => Ok(None),
        kind if kind.is_dir() => Err(failure(
            FailureKind::IsADirectory,
            format!("cannot write {}: it is a directory", path.display()),
        )),
        _ => {
            let message = format!("cannot write {}: it is not a regular file", path.display());
            Err(failure(FailureKind::Forbidden, message))
        }
    }
}

/// A file that is being written. Dropping it removes it.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It has taken its place, or its directory is gone.
        std::fs::remove_file(&self.path).ok();
    }
}

impl Temporary {
    fn create(parent: &Path) -> Result<Self, SystemError> {
        let action = || format!("create a file in {}", parent.display());
        let path = parent.join(format!("{TEMPORARY}{:016x}", RandomState::new().build_hasher().finish()));
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).context(action())?;
        Ok(Self { file, path })
    }

    fn fill(&self, mut content: impl Read, path: &Path) -> Result<(), SystemError> {
        io::copy(&mut content, &mut &self.file).map(drop).context(format!("write {}", path.display()))
    }

    fn set_attributes(
        &self,
        requested: &NewFile,
        replaced: Option<&Metadata>,
        path: &Path,
    ) -> Result<(), SystemError> {
        let uid = requested.uid.or(replaced.map(MetadataExt::uid)).unwrap_or_default();
        let gid = requested.gid.or(replaced.map(MetadataExt::gid)).unwrap_or_default();
        let mode = requested.mode.or(replaced.map(MetadataExt::mode)).unwrap_or(MODE) & 0o7777;
        let action = || format!("set the owner of {}", path.display());
        fchown(&self.file, Some(uid), Some(gid)).context(action())?;
        self.file.set_permissions(Permissions::from_mode(mode)).context(action())
    }

    fn take_place_of(self, path: &Path) -> Result<(), SystemError> {
        match std::fs::rename(&self.path, path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.overwrite(path),
            renamed => renamed,
        }
        .context(format!("write {}", path.display()))
    }

    /// Copies the content into a file that is a mount point.
    fn overwrite(&self, path: &Path) -> io::Result<()> {
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32;
        let mut target = OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(path)?;
        io::copy(&mut File::open(&self.path)?, &mut target).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write_to(path: &Path, content: &str, parents: bool) -> Result<(), Failure> {
        let path = path.to_str().expect("text").to_owned();
        let own = |id: rustix::process::Uid| Some(id.as_raw());
        let uid = own(rustix::process::geteuid());
        let gid = Some(rustix::process::getegid().as_raw());
        write(&NewFile { path, uid, gid, parents, ..NewFile::default() }, content.as_bytes())
    }

    #[test]
    fn a_file_is_created_and_replaced_with_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/file");
        assert_eq!(write_to(&path, "x", false).expect_err("no parent").kind, FailureKind::NotFound);
        write_to(&path, "one", true).expect("written");
        let mode = || std::fs::metadata(&path).expect("there").mode() & 0o7777;
        assert_eq!(mode(), 0o644);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        symlink("file", directory.path().join("a/link")).expect("linked");
        write_to(&directory.path().join("a/link"), "two", false).expect("written");
        assert_eq!((std::fs::read_to_string(&path).expect("read"), mode()), ("two".to_owned(), 0o600));
        assert_eq!(
            write_to(directory.path(), "x", false).expect_err("refused").kind,
            FailureKind::IsADirectory
        );
        assert_eq!(
            write_to(&path.join("x"), "x", true).expect_err("refused").kind,
            FailureKind::NotADirectory
        );
        assert_eq!(std::fs::read_dir(directory.path().join("a")).expect("read").count(), 2);
    }

    #[test]
    fn content_that_breaks_off_changes_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "old").expect("written");
        let file = NewFile { path: path.to_str().expect("text").to_owned(), ..NewFile::default() };
        write(&file, b"ne".chain(Broken)).expect_err("broken");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 1);
    }
}
