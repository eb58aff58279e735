//! The shared directory or file.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Flags for a descriptor that refers to a file, but cannot read or write it.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A directory of the host, or one file in it.
#[derive(Debug)]
pub(super) struct Share {
    /// The directory.
    pub root: OwnedFd,
    /// The only entry that exists for the guest.
    pub single_file: Option<CString>,
    /// Whether changes are refused.
    pub read_only: bool,
    /// The server runs as root, so new files are given to the guest user who created them.
    pub sets_owner: bool,
    /// `/proc/self/fd`, where descriptors have paths.
    descriptors: OwnedFd,
}

impl Share {
    /// Opens `path`. Symbolic links in it are followed, because the path comes from the host.
    pub(super) fn open(path: &Path, read_only: bool) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let kind = FileType::from_raw_mode(fstat(openat(CWD, &path, PATH_ONLY, Mode::empty())?)?.st_mode);
        let (directory, single_file) = match (kind, path.parent(), path.file_name()) {
            (FileType::Directory, ..) => (path.as_path(), None),
            (FileType::RegularFile, Some(parent), Some(name)) => {
                (parent, Some(CString::new(name.as_bytes())?))
            }
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a directory nor a file")),
        };
        let root = openat(CWD, directory, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
        let descriptors = openat(CWD, "/proc/self/fd", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { root, single_file, read_only, sets_owner: geteuid().is_root(), descriptors })
    }

    /// The name of the only file, for the guest.
    pub(super) fn file_name(&self) -> Option<String> {
        self.single_file.as_ref().map(|name| name.to_string_lossy().into_owned())
    }

    /// Calls `call` with a directory and a name in it that lead to the inode of
    /// `fd`, for system calls that do not accept an `O_PATH` descriptor. This
    /// is the inode itself, even if it was renamed or replaced: no symbolic link
    /// is followed.
    pub(super) fn with_proc_path<T>(
        &self,
        fd: &OwnedFd,
        call: impl FnOnce(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        call(&self.descriptors, &fd.as_raw_fd().to_string())
    }

    /// As [`Share::with_proc_path`], for system calls that take no directory.
    pub(super) fn with_full_proc_path<T>(
        &self,
        fd: &OwnedFd,
        call: impl FnOnce(&str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut path = String::from("/proc/self/fd/");
        write!(path, "{}", fd.as_raw_fd()).map_err(|_| Errno::NOMEM)?;
        call(&path)
    }

    /// Opens the file or directory that `fd` refers to. Nothing else is ever
    /// opened: to open a device or a pipe of the host may block or have side effects.
    pub(super) fn reopen(&self, fd: &OwnedFd, kind: FileType, flags: OFlags) -> Result<OwnedFd, Errno> {
        match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            actual if actual == kind => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::RegularFile => return Err(Errno::NOTDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        self.with_proc_path(fd, |directory, name| openat(directory, name, flags, Mode::empty()))
    }

    /// Whether the guest may see `name` in the root.
    pub(super) fn is_visible(&self, name: &CStr) -> bool {
        self.single_file.as_deref().is_none_or(|file| file == name)
    }
}
