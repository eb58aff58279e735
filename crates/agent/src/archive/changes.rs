//! What a container has changed of its image: the contents of the overlay's upper directory.
//!
//! The agent reads them in its own mount namespace, while the container may change them: each directory is
//! opened below the upper directory without links, and what is in it is named through that descriptor.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::source::is_gone;
use crate::failure::{Context, SystemError};
use crate::rootfs::{IMAGE, WRITABLE, fd_path, managed};

/// Paths that the agent puts there itself, or mounts something over.
const OWN: [&str; 9] = [
    "dev",
    "proc",
    "sys",
    "run/mimeo",
    "etc/hostname",
    HOSTS,
    "etc/resolv.conf",
    "etc/machine-id",
    "lost+found",
];
/// The file that is the container's own with --no-hosts.
const HOSTS: &str = "etc/hosts";
/// The mark of a directory whose contents hide those of the image's directory.
const OPAQUE: &str = "trusted.overlay.opaque";
/// The mark of a renamed directory of the image. The agent's overlays do not allow that.
const REDIRECT: &str = "trusted.overlay.redirect";

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Added,
    Changed,
    Deleted,
}

impl Kind {
    /// The letter that podman and Docker print.
    fn letter(self) -> u8 {
        match self {
            Self::Added => b'A',
            Self::Changed => b'C',
            Self::Deleted => b'D',
        }
    }
}

/// A changed path.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) kind: Kind,
    /// Its path, without a slash at the beginning.
    pub(super) path: PathBuf,
    /// The path by which the agent reads it during the visit. No directory of it can become a link.
    pub(super) source: PathBuf,
    /// Its metadata in the upper directory; `None` if it was deleted with the contents of its directory.
    pub(super) metadata: Option<Metadata>,
    /// It is a directory that hides the image's.
    pub(super) is_opaque: bool,
}

/// A directory that is still to be listed.
struct Pending {
    path: PathBuf,
    /// The image has a directory there that shows through.
    is_merged: bool,
    is_opaque: bool,
}

/// Calls `visit` for all changes; parents come before their contents. What is removed meanwhile is left out.
pub(super) fn walk(mut visit: impl FnMut(&Change) -> Result<(), SystemError>) -> Result<(), SystemError> {
    let Some(upper) = open_upper()? else {
        return Ok(());
    };
    let mut pending = vec![Pending { path: PathBuf::new(), is_merged: true, is_opaque: false }];
    while let Some(directory) = pending.pop() {
        if let Some(opened) = open_below(&upper, &directory.path)? {
            visit_directory(&upper, &directory, &opened, &mut pending, &mut visit)?;
        }
    }
    Ok(())
}

fn visit_directory(
    upper: &OwnedFd,
    directory: &Pending,
    opened: &OwnedFd,
    pending: &mut Vec<Pending>,
    visit: &mut impl FnMut(&Change) -> Result<(), SystemError>,
) -> Result<(), SystemError> {
    for name in sorted_names(Path::new(&fd_path(opened)))? {
        let path = directory.path.join(&name);
        if is_own(&path) {
            continue;
        }
        let source = Path::new(&fd_path(opened)).join(name);
        let Some(change) = classify(path, source, directory.is_merged)? else {
            continue;
        };
        if !is_own_directory(upper, &change)? {
            visit(&change)?;
        }
        if change.metadata.as_ref().is_some_and(Metadata::is_dir) {
            let is_merged = directory.is_merged && !change.is_opaque && image_directory(&change.path);
            let is_opaque = directory.is_merged && change.is_opaque;
            pending.push(Pending { path: change.path, is_merged, is_opaque });
        }
    }
    if directory.is_opaque {
        visit_hidden(directory, opened, visit)?;
    }
    Ok(())
}

/// Visits what an opaque directory hides of the image's directory.
fn visit_hidden(
    directory: &Pending,
    opened: &OwnedFd,
    visit: &mut impl FnMut(&Change) -> Result<(), SystemError>,
) -> Result<(), SystemError> {
    if !image_directory(&directory.path) {
        return Ok(());
    }
    for name in sorted_names(&Path::new(IMAGE).join(&directory.path))? {
        let source = Path::new(&fd_path(opened)).join(&name);
        if fs::symlink_metadata(&source).is_err() {
            let path = directory.path.join(name);
            visit(&Change { kind: Kind::Deleted, path, source, metadata: None, is_opaque: false })?;
        }
    }
    Ok(())
}

/// How a path differs from the image; `None` if it does not, or is gone.
fn classify(path: PathBuf, source: PathBuf, parent_is_merged: bool) -> Result<Option<Change>, SystemError> {
    let metadata = match fs::symlink_metadata(&source) {
        Err(error) if is_gone(&error) => return Ok(None),
        metadata => metadata.context(format!("stat /{}", path.display()))?,
    };
    if has_attribute(&source, REDIRECT) {
        return Err(SystemError::new(
            format!("read the renamed directory /{}", path.display()),
            rustix::io::Errno::OPNOTSUPP,
        ));
    }
    // Where a parent is not the image's, the image's path could lead through a link.
    let kind = match (is_whiteout(&metadata), parent_is_merged && in_image(&path)) {
        (true, true) => Kind::Deleted,
        (true, false) => return Ok(None),
        (false, true) => Kind::Changed,
        (false, false) => Kind::Added,
    };
    let is_opaque = metadata.is_dir() && has_attribute(&source, OPAQUE);
    Ok(Some(Change { kind, path, source, metadata: Some(metadata), is_opaque }))
}

/// All changes as records: a letter, the path with a slash at its beginning, a zero byte.
pub(super) fn list(writer: &mut impl io::Write) -> Result<(), SystemError> {
    walk(|change| {
        let record = [&[change.kind.letter(), b'/'], change.path.as_os_str().as_bytes(), &[0]].concat();
        writer.write_all(&record).context("send the changes".to_owned())
    })?;
    writer.flush().context("send the changes".to_owned())
}

/// Opens the upper directory, which a container without a writable layer does not have.
fn open_upper() -> Result<Option<OwnedFd>, SystemError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, format!("{WRITABLE}/upper"), flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        upper => Ok(Some(upper.context("open the writable layer")?)),
    }
}

/// Opens a directory below `upper`. No part of its path may be a link; `None` if one is, or it is gone.
fn open_below(upper: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, SystemError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let relative = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match openat2(upper, relative, flags, Mode::empty(), resolve).map_err(io::Error::from) {
        Err(error) if is_gone(&error) => Ok(None),
        directory => Ok(Some(directory.context(format!("list /{}", path.display()))?)),
    }
}

fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path == Path::new(own)) && (path != Path::new(HOSTS) || managed::is_hosts_bound())
}

/// Whether a directory is there only because the agent has put its own paths into it.
fn is_own_directory(upper: &OwnedFd, change: &Change) -> Result<bool, SystemError> {
    let path = &change.path;
    if change.is_opaque || !OWN.iter().any(|own| Path::new(own).parent() == Some(path)) {
        return Ok(false);
    }
    let Some(opened) = open_below(upper, path)? else {
        return Ok(false);
    };
    let names = sorted_names(Path::new(&fd_path(&opened)))?;
    Ok(names.iter().all(|name| is_own(&path.join(name))))
}

fn in_image(path: &Path) -> bool {
    fs::symlink_metadata(Path::new(IMAGE).join(path)).is_ok()
}

fn image_directory(path: &Path) -> bool {
    fs::symlink_metadata(Path::new(IMAGE).join(path)).is_ok_and(|metadata| metadata.is_dir())
}

/// overlayfs marks a deleted path with a character device of number 0.
fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn has_attribute(path: &Path, name: &str) -> bool {
    rustix::fs::lgetxattr(path, name, &mut [0_u8; 256][..]).is_ok()
}

fn sorted_names(directory: &Path) -> Result<Vec<std::ffi::OsString>, SystemError> {
    let names =
        || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = names().context(format!("list {}", directory.display()))?;
    names.sort_by(|a, b| OsStr::cmp(a, b));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_opened_without_links() {
        let upper = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(upper.path().join("a/b")).expect("created");
        std::os::unix::fs::symlink("/etc", upper.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("a", upper.path().join("inner")).expect("linked");
        fs::write(upper.path().join("file"), "").expect("written");
        let opened = rustix::fs::open(upper.path(), OFlags::PATH, Mode::empty()).expect("opened");
        let is_open = |path: &str| open_below(&opened, Path::new(path)).expect("no failure").is_some();
        assert!(is_open("") && is_open("a/b"));
        for path in ["link", "link/ssl", "inner/b", "file", "file/x", "none"] {
            assert!(!is_open(path), "{path}");
        }
    }
}
