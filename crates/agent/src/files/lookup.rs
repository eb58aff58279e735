//! Finds a file, and describes it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use mimeo_agent_protocol::message::{Failure, FailureKind, FileInfo, FileType};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};

use crate::failure::{Context, failure};

/// Magic numbers of the kernel's own filesystems: proc, sysfs, cgroup2.
const KERNEL_FILESYSTEMS: [i64; 3] = [0x9fa0, 0x6265_6572, 0x6367_7270];

/// Opens a path; links of /proc are not followed.
pub(super) fn open(path: &Path, flags: OFlags) -> Result<File, Failure> {
    let action = || format!("open {}", path.display());
    let opened = openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = File::from(opened.context(action())?);
    let filesystem = fstatfs(&file).context(action())?;
    if KERNEL_FILESYSTEMS.contains(&filesystem.f_type) {
        let message = format!("cannot {}: it is a file of the kernel, not of the container", action());
        return Err(failure(FailureKind::Forbidden, message));
    }
    Ok(file)
}

/// Describes a file.
pub(super) fn stat(path: &str, follow: bool) -> Result<FileInfo, Failure> {
    let path = Path::new(path);
    let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
    let file = open(path, flags)?;
    let metadata = file.metadata().context(format!("stat {}", path.display()))?;
    let target = std::fs::read_link(path).ok().filter(|_| metadata.is_symlink());
    Ok(describe(&name(path), &metadata, target.as_deref()))
}

/// The last component of a path; `/` for the root.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A file with this metadata.
pub(super) fn describe(name: &str, metadata: &Metadata, target: Option<&Path>) -> FileInfo {
    FileInfo {
        name: name.to_owned(),
        kind: file_type(metadata),
        size: metadata.len(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified_nanos: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        target: target.map(|target| target.to_string_lossy().into_owned()),
    }
}

fn file_type(metadata: &Metadata) -> FileType {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => FileType::Directory,
        () if kind.is_file() => FileType::File,
        () if kind.is_symlink() => FileType::Symlink,
        () if kind.is_char_device() => FileType::CharDevice,
        () if kind.is_block_device() => FileType::BlockDevice,
        () if kind.is_fifo() => FileType::Fifo,
        () if kind.is_socket() => FileType::Socket,
        () => FileType::Unknown,
    }
}

/// Whether nothing is at a path.
pub(super) fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
