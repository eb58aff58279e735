//! What a container has changed of its image: the contents of the overlay's upper directory.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::{Context, SystemError};
use crate::rootfs::{IMAGE, WRITABLE};

/// Paths that the agent puts there itself, or mounts something over.
const OWN: [&str; 9] = [
    "dev",
    "proc",
    "sys",
    "run/mimeo",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/machine-id",
    "lost+found",
];
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

/// Calls `visit` for all changes; parents come before their contents.
pub(super) fn walk(mut visit: impl FnMut(&Change) -> Result<(), SystemError>) -> Result<(), SystemError> {
    let upper = upper();
    if !upper.exists() {
        return Ok(());
    }
    let mut pending = vec![Pending { path: PathBuf::new(), is_merged: true, is_opaque: false }];
    while let Some(directory) = pending.pop() {
        for name in sorted_names(&upper.join(&directory.path))? {
            let path = directory.path.join(name);
            if is_own(&path) {
                continue;
            }
            let change = classify(&path, directory.is_merged)?;
            if change.kind == Kind::Deleted && !in_image(&path) {
                continue;
            }
            if !is_own_directory(&change) {
                visit(&change)?;
            }
            if change.metadata.as_ref().is_some_and(Metadata::is_dir) {
                let is_merged = directory.is_merged && !change.is_opaque && image_directory(&path);
                pending.push(Pending { path, is_merged, is_opaque: change.is_opaque });
            }
        }
        if directory.is_opaque {
            visit_hidden(&directory.path, &mut visit)?;
        }
    }
    Ok(())
}

/// Visits what an opaque directory hides of the image's directory.
fn visit_hidden(
    directory: &Path,
    visit: &mut impl FnMut(&Change) -> Result<(), SystemError>,
) -> Result<(), SystemError> {
    if !image_directory(directory) {
        return Ok(());
    }
    for name in sorted_names(&Path::new(IMAGE).join(directory))? {
        let path = directory.join(name);
        if fs::symlink_metadata(upper().join(&path)).is_err() {
            visit(&Change { kind: Kind::Deleted, path, metadata: None, is_opaque: false })?;
        }
    }
    Ok(())
}

fn classify(path: &Path, parent_is_merged: bool) -> Result<Change, SystemError> {
    let upper = upper().join(path);
    let metadata = fs::symlink_metadata(&upper).context(format!("stat {}", upper.display()))?;
    if has_attribute(&upper, REDIRECT) {
        return Err(SystemError::new(
            format!("read the renamed directory /{}", path.display()),
            rustix::io::Errno::OPNOTSUPP,
        ));
    }
    let kind = if is_whiteout(&metadata) {
        Kind::Deleted
    } else if parent_is_merged && in_image(path) {
        Kind::Changed
    } else {
        Kind::Added
    };
    let is_opaque = metadata.is_dir() && has_attribute(&upper, OPAQUE);
    Ok(Change { kind, path: path.to_owned(), metadata: Some(metadata), is_opaque })
}

/// All changes as records: a letter, the path with a slash at its beginning, a zero byte.
pub(super) fn list(writer: &mut impl io::Write) -> Result<(), SystemError> {
    walk(|change| {
        let record = [&[change.kind.letter(), b'/'], change.path.as_os_str().as_bytes(), &[0]].concat();
        writer.write_all(&record).context("send the changes".to_owned())
    })?;
    writer.flush().context("send the changes".to_owned())
}

pub(super) fn upper() -> PathBuf {
    Path::new(WRITABLE).join("upper")
}

fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path == Path::new(own))
}

/// Whether a directory is there only because the agent has put its own paths into it.
fn is_own_directory(change: &Change) -> bool {
    let path = &change.path;
    if change.is_opaque || !OWN.iter().any(|own| Path::new(own).parent() == Some(path)) {
        return false;
    }
    sorted_names(&upper().join(path)).is_ok_and(|names| names.iter().all(|name| is_own(&path.join(name))))
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
