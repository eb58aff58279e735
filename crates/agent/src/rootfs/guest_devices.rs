//! All devices of the guest in the container's `/dev`, for a privileged container.

use std::fs::{DirEntry, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, Uid, chownat, mkdirat, mknodat};
use rustix::io::Errno;

use crate::failure::{Context, SystemError};

/// The agent's own `/dev`, which the kernel fills.
const DEVICES: &str = "/dev";

/// Creates a node for each device that the container's `/dev` does not have.
pub(super) fn create_all(dev: &OwnedFd) -> Result<(), SystemError> {
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let path = Path::new(DEVICES).join(&directory);
        for entry in std::fs::read_dir(&path).context(format!("list {}", path.display()))? {
            let entry = entry.context(format!("list {}", path.display()))?;
            let name = directory.join(entry.file_name());
            if let Some(below) =
                create(dev, &entry, &name).context(format!("create /dev/{}", name.display()))?
            {
                pending.push(below);
            }
        }
    }
    Ok(())
}

/// Creates a device or a directory; returns a directory that is new to the container.
fn create(dev: &OwnedFd, entry: &DirEntry, name: &Path) -> std::io::Result<Option<PathBuf>> {
    let metadata = entry.metadata()?;
    let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
    let created = match device_type(&metadata) {
        Some(kind) => mknodat(dev, name, kind, mode, metadata.rdev()).map(|()| None),
        None if metadata.is_dir() => mkdirat(dev, name, mode).map(|()| Some(name.to_owned())),
        None => return Ok(None),
    };
    match created {
        Ok(below) => {
            let owner = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
            chownat(dev, name, Some(owner.0), Some(owner.1), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(below)
        }
        // The container has its own: null, pts, shm.
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn device_type(metadata: &Metadata) -> Option<FileType> {
    let kind = metadata.file_type();
    if kind.is_char_device() {
        return Some(FileType::CharacterDevice);
    }
    kind.is_block_device().then_some(FileType::BlockDevice)
}
