//! Resolves paths below the container's root before the container runs. A link in
//! the image never leads out of the root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, readlinkat};
use rustix::io::Errno;

use crate::failure::{Context, SystemError};

/// Largest number of links to follow in a path, as in the kernel.
const MAX_LINKS: u32 = 40;

/// The root directory that paths are resolved in.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// A path that refers to an open file in any system call, even if its own path has changed.
pub(crate) fn fd_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

impl Root {
    pub(crate) fn open(path: &str) -> Result<Self, SystemError> {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .context(format!("open {path}"))
    }

    /// Opens a directory. It is created with its parents when it is absent.
    pub(crate) fn directory(&self, path: &str) -> Result<OwnedFd, SystemError> {
        let resolved = self.resolve(Path::new(path)).context(format!("resolve {path}"))?;
        self.create_directories(&resolved).context(format!("create {path}"))?;
        self.open_at(&resolved, OFlags::PATH | OFlags::DIRECTORY).context(format!("open {path}"))
    }

    /// Returns whether something is at this path.
    pub(crate) fn exists(&self, path: &str) -> Result<bool, SystemError> {
        let resolved = self.resolve(Path::new(path)).context(format!("resolve {path}"))?;
        match self.open_at(&resolved, OFlags::PATH) {
            Err(Errno::NOENT) => Ok(false),
            found => found.map(|_| true).context(format!("open {path}")),
        }
    }

    /// Opens a file. It is created with its directories when it is absent.
    pub(crate) fn file(&self, path: &str) -> Result<OwnedFd, SystemError> {
        let resolved = self.resolve(Path::new(path)).context(format!("resolve {path}"))?;
        if let Some(parent) = resolved.parent() {
            self.create_directories(parent).context(format!("create the directory of {path}"))?;
        }
        match self.open_at(&resolved, OFlags::PATH) {
            Err(Errno::NOENT) => {
                self.open_at(&resolved, OFlags::CREATE | OFlags::WRONLY).context(format!("create {path}"))?;
                self.open_at(&resolved, OFlags::PATH).context(format!("open {path}"))
            }
            other => other.context(format!("open {path}")),
        }
    }

    /// Opens a regular file, if there is one at this path itself, not behind a link.
    pub(crate) fn regular_file(&self, path: &str) -> Option<OwnedFd> {
        let relative = Path::new(path.trim_start_matches('/'));
        let file = self.open_at(relative, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let kind = FileType::from_raw_mode(fstat(&file).ok()?.st_mode);
        (kind == FileType::RegularFile).then_some(file)
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { 0o644 } else { 0 };
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve_flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve_flags)
    }

    fn create_directories(&self, path: &Path) -> Result<(), Errno> {
        let mut prefix = PathBuf::new();
        for name in path {
            let parent = self.open_at(&prefix, OFlags::PATH | OFlags::DIRECTORY)?;
            match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            prefix.push(name);
        }
        Ok(())
    }

    /// The path without links, relative to the root. Components that do not exist are kept.
    fn resolve(&self, path: &Path) -> Result<PathBuf, Errno> {
        let mut remaining: VecDeque<OsString> = path_names(path).collect();
        let mut resolved = PathBuf::new();
        let mut links = 0;
        while let Some(name) = remaining.pop_front() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&name);
            let Some(target) = self.read_link(&next)? else {
                resolved = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            if target.is_absolute() {
                resolved.clear();
            }
            for name in path_names(&target).collect::<Vec<_>>().into_iter().rev() {
                remaining.push_front(name);
            }
        }
        Ok(resolved)
    }

    /// The target of a link; `None` when there is no link at the path.
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let file = match self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        match readlinkat(&file, "", Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()).into())),
            // Not a link.
            Err(_) => Ok(None),
        }
    }
}

/// The components of a path, `..` included.
fn path_names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("a directory");
        let root = Root::open(directory.path().to_str().expect("utf-8")).expect("opens");
        (directory, root)
    }

    #[test]
    fn a_link_to_the_root_stays_inside() {
        let (directory, root) = root();
        symlink("/", directory.path().join("evil")).expect("links");
        root.file("/evil/../evil/etc/hosts").expect("makes");
        assert!(directory.path().join("etc/hosts").is_file());
    }

    #[test]
    fn the_target_of_a_dangling_link_is_created() {
        let (directory, root) = root();
        std::fs::create_dir(directory.path().join("etc")).expect("makes");
        symlink("../run/systemd/resolve/stub", directory.path().join("etc/resolv.conf")).expect("links");
        root.file("/etc/resolv.conf").expect("makes");
        assert!(directory.path().join("run/systemd/resolve/stub").is_file());
    }

    #[test]
    fn a_link_is_not_a_regular_file() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("file"), "").expect("writes");
        symlink("file", directory.path().join("link")).expect("links");
        assert!(root.regular_file("/file").is_some());
        assert!(root.regular_file("/link").is_none() && root.regular_file("/none").is_none());
    }

    #[test]
    fn a_loop_of_links_is_refused() {
        let (directory, root) = root();
        symlink("b", directory.path().join("a")).expect("links");
        symlink("a", directory.path().join("b")).expect("links");
        assert!(root.directory("/a/c").is_err());
    }
}
