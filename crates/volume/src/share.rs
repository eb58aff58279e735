//! What is shared, and how much of it.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Only names something; never reads or writes it.
const NAMES: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A directory of the host, or one file in it.
#[derive(Debug)]
pub(super) struct Share {
    /// The directory.
    pub root: OwnedFd,
    /// The only entry that exists for the guest.
    pub only: Option<CString>,
    /// Nothing may change.
    pub read_only: bool,
    /// The server acts as root: files belong to those in the guest who make them.
    pub gives_away: bool,
    /// Where descriptors have paths: `/proc/self/fd`.
    descriptors: OwnedFd,
}

impl Share {
    /// Opens what stands at `path`; links on the way are followed, for the path is the host's own.
    pub(super) fn open(path: &Path, read_only: bool) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let kind = FileType::from_raw_mode(fstat(openat(CWD, &path, NAMES, Mode::empty())?)?.st_mode);
        let (directory, only) = match (kind, path.parent(), path.file_name()) {
            (FileType::Directory, ..) => (path.as_path(), None),
            (FileType::RegularFile, Some(parent), Some(name)) => {
                (parent, Some(CString::new(name.as_bytes())?))
            }
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a directory nor a file")),
        };
        let root = openat(CWD, directory, NAMES | OFlags::DIRECTORY, Mode::empty())?;
        let descriptors = openat(CWD, "/proc/self/fd", NAMES | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { root, only, read_only, gives_away: geteuid().is_root(), descriptors })
    }

    /// The name of the only file, as the guest is told.
    pub(super) fn file(&self) -> Option<String> {
        self.only.as_ref().map(|name| name.to_string_lossy().into_owned())
    }

    /// Calls `act` with a directory and a name in it that lead to what `fd`
    /// names, for the calls that take no such descriptor. It is the inode
    /// itself, whatever became of its names: no link is followed.
    pub(super) fn by_path<T>(
        &self,
        fd: &OwnedFd,
        act: impl FnOnce(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        act(&self.descriptors, &fd.as_raw_fd().to_string())
    }

    /// As [`Share::by_path`], for the calls that take no directory.
    pub(super) fn by_full_path<T>(
        &self,
        fd: &OwnedFd,
        act: impl FnOnce(&str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut path = String::from("/proc/self/fd/");
        write!(path, "{}", fd.as_raw_fd()).map_err(|_| Errno::NOMEM)?;
        act(&path)
    }

    /// Opens the file or directory that `fd` names. Nothing else is ever
    /// opened: a device or a pipe of the host could block, or do something.
    pub(super) fn reopen(&self, fd: &OwnedFd, kind: FileType, flags: OFlags) -> Result<OwnedFd, Errno> {
        match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            found if found == kind => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::RegularFile => return Err(Errno::NOTDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        self.by_path(fd, |directory, name| openat(directory, name, flags, Mode::empty()))
    }

    /// Whether the guest may see `name` in the root.
    pub(super) fn shows(&self, name: &CStr) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
    }
}
