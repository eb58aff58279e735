//! Connects to sockets in an open directory.
//!
//! The address of a Unix socket is limited to 108 bytes, and a machine's directory may have a longer path.
//! And a jailed Firecracker can change the files in its jail: a symlink there could lead to any socket of the
//! host.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat, unlinkat};
use tokio::net::UnixStream;

/// Opens a directory (O_PATH).
pub(super) fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    Ok(open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Connects to the socket `name` in `directory`, without following symlinks.
pub(super) async fn connect(directory: &OwnedFd, name: &str) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a socket")));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

/// Whether the error means that nothing listens yet.
pub(super) fn is_not_listening(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Removes `name` in `directory`, unless it is a directory.
pub(super) fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(unlinkat(directory, name, AtFlags::empty())?),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn symlinks_to_sockets_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("real")).expect("binds");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("links");
        let directory = open_directory(dir.path()).expect("opens");
        connect(&directory, "real").await.expect("is reached");
        assert_eq!(
            connect(&directory, "link").await.expect_err("refused").kind(),
            io::ErrorKind::InvalidData
        );
        assert!(is_not_listening(&connect(&directory, "none").await.expect_err("nothing")));
    }

    #[tokio::test]
    async fn directory_paths_may_be_long() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = (0..5).fold(dir.path().to_owned(), |path, _| path.join("d".repeat(100)));
        std::fs::create_dir_all(&deep).expect("made");
        let directory = open_directory(&deep).expect("opens");
        let address = format!("/proc/self/fd/{}/s", directory.as_raw_fd());
        let _listener = std::os::unix::net::UnixListener::bind(address).expect("binds");
        connect(&directory, "s").await.expect("is reached");
    }
}
