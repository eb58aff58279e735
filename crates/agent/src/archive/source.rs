//! A path that is open to be packed. The container may change its files meanwhile, so that a file is
//! examined again once it is open: it must not be a link out of the tree, nor a pipe that blocks.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::content;

/// What is written of a path.
pub(super) struct Source {
    pub(super) metadata: Metadata,
    /// Extended attributes under their PAX names.
    pub(super) attributes: Vec<(String, Vec<u8>)>,
    pub(super) content: Content,
}

/// What an entry has beside its metadata.
pub(super) enum Content {
    /// A regular file's length and bytes.
    File(u64, Box<dyn Read>),
    /// A symbolic link's target.
    Link(PathBuf),
    /// A device's number.
    Device(u64),
    /// A directory, a FIFO or a socket.
    Empty,
}

impl Source {
    /// Opens the path that had this metadata. The error of one that is gone fulfils [`is_gone`].
    pub(super) fn open(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        let kind = metadata.file_type();
        let attributes = read_attributes(path);
        if kind.is_file() {
            let file = open_file(path)?;
            let metadata = file.metadata()?;
            let (length, content) = content::read(file, &metadata)?;
            return Ok(Self { metadata, attributes, content: Content::File(length, content) });
        }
        let content = if kind.is_symlink() {
            Content::Link(read_link(path)?)
        } else if kind.is_char_device() || kind.is_block_device() {
            Content::Device(metadata.rdev())
        } else {
            Content::Empty
        };
        Ok(Self { metadata: metadata.clone(), attributes, content })
    }
}

/// Opens a regular file: no link is followed, and a FIFO does not block.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn read_link(path: &Path) -> io::Result<PathBuf> {
    match std::fs::read_link(path) {
        // It is no longer a link.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(io::ErrorKind::NotFound.into()),
        target => target,
    }
}

/// Whether a path was removed, or replaced by another kind of file, since it was found.
pub(super) fn is_gone(error: &io::Error) -> bool {
    // ELOOP: a link where none is followed. ENXIO: a socket.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// A path's extended attributes. A filesystem without extended attributes yields none.
fn read_attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or_default();
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    names
        // overlayfs's own marks belong to the upper directory, not to its files.
        .filter(|name| !name.is_empty() && !name.starts_with("trusted.overlay."))
        .filter_map(|name| {
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
            value.truncate(length);
            Some((format!("SCHILY.xattr.{name}"), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// The error of a file that `replace` has changed since it was found.
    fn error_after(replace: impl FnOnce(&Path)) -> io::Error {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "text").expect("written");
        let metadata = std::fs::symlink_metadata(&path).expect("there");
        std::fs::remove_file(&path).expect("removed");
        replace(&path);
        Source::open(&path, &metadata).err().expect("gone")
    }

    #[test]
    fn a_file_that_was_replaced_is_gone() {
        assert!(is_gone(&error_after(|_| {})));
        assert!(is_gone(&error_after(|path| symlink("/etc/passwd", path).expect("linked"))));
        assert!(is_gone(&error_after(|path| std::fs::create_dir(path).expect("created"))));
        assert!(is_gone(&error_after(|path| {
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("created");
        })));
        assert!(is_gone(&error_after(|path| {
            drop(std::os::unix::net::UnixListener::bind(path).expect("bound"));
        })));
    }

    #[test]
    fn a_link_that_was_replaced_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("link");
        symlink("/etc/passwd", &path).expect("linked");
        let metadata = std::fs::symlink_metadata(&path).expect("there");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "text").expect("written");
        assert!(is_gone(&Source::open(&path, &metadata).err().expect("gone")));
    }
}
