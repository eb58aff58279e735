//! Unpacks a tar stream into an existing directory.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use mimeo_agent_protocol::message::{Failure, FailureKind};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chownat, makedev, mknodat, unlinkat};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::failure::{Context, SystemError, failure};

/// Unpacks all entries. Existing files are replaced.
pub(super) fn unpack(directory: &str, reader: impl Read) -> Result<(), Failure> {
    let target = Path::new(directory);
    let metadata = std::fs::metadata(target).context(format!("stat {directory}"))?;
    if !metadata.is_dir() {
        return Err(failure(FailureKind::NotADirectory, format!("{directory} is not a directory")));
    }
    unpack_into(target, reader).map_err(SystemError::of_input)
}

/// Unpacks all entries into `target`, which is a directory.
pub(super) fn unpack_into(target: &Path, reader: impl Read) -> Result<(), SystemError> {
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(true);
    unpack_entries(&mut archive, target)
}

fn unpack_entries(archive: &mut Archive<impl Read>, target: &Path) -> Result<(), SystemError> {
    // A directory's mode may forbid writes: directories come last, after their content.
    let mut directories = Vec::new();
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let name = entry.path().context("read the archive")?.into_owned();
        let action = || format!("unpack {}", name.display());
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                create_node(&entry, &target.join(relative_path(&name).context(action())?))
                    .context(action())?;
            }
            _ => drop(entry.unpack_in(target).context(action())?),
        }
    }
    for directory in directories.iter_mut().rev() {
        directory.unpack_in(target).context("unpack a directory")?;
    }
    Ok(())
}

/// The relative path of an entry. A name with `..` is an error.
fn relative_path(name: &Path) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => return Err(Errno::INVAL.into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

fn create_node(entry: &Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let number = |part: Option<u32>| part.unwrap_or_default();
    let device = makedev(number(header.device_major()?), number(header.device_minor()?));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    mknodat(CWD, path, kind, Mode::from_raw_mode(header.mode()?), device)?;
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::from(Errno::INVAL));
    let owner = (Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?));
    Ok(chownat(CWD, path, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?)
}
