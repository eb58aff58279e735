//! Where a machine's Firecracker runs, and what it finds there.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, mknodat, symlinkat};
use tokio::net::unix::pipe;

use super::jail::Jail;
use super::{names, socket};
use crate::LaunchError;
use crate::spawn::BindMount;

/// What Firecracker may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read it; other machines do too.
    Read,
    /// Read it once. It may be the host's own, and stays as it is.
    ReadOnce,
    /// Write it; nobody else uses it.
    Own,
    /// Connect to it.
    Connect,
}

/// The directory where Firecracker runs: the machine's own, or its jail's root.
/// What is made there is removed with this.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    directory: Arc<OwnedFd>,
    /// What is there by our doing or Firecracker's.
    created: Vec<String>,
    mounts: Vec<BindMount>,
    jail: Option<Jail>,
}

impl Layout {
    /// The machine's own directory.
    pub(super) fn open(directory: &Path) -> Result<Self, LaunchError> {
        Self::new(directory.to_owned(), None)
    }

    /// A jail's root.
    pub(super) fn jailed(jail: Jail) -> Result<Self, LaunchError> {
        Self::new(jail.root().to_owned(), Some(jail))
    }

    fn new(root: PathBuf, jail: Option<Jail>) -> Result<Self, LaunchError> {
        let directory = socket::open_directory(&root).map_err(|source| {
            jail.iter().for_each(Jail::remove);
            prepare_error("open", &root, source)
        })?;
        let mut layout =
            Self { root, directory: Arc::new(directory), created: Vec::new(), mounts: Vec::new(), jail };
        for name in [names::API, names::LINK] {
            layout.remove_stale(name)?;
        }
        Ok(layout)
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory, held open.
    pub(super) fn directory(&self) -> &Arc<OwnedFd> {
        &self.directory
    }

    /// The jail, if it is one.
    pub(super) fn jail(&self) -> Option<&Jail> {
        self.jail.as_ref()
    }

    /// What is to be seen in the jail, for who starts it.
    pub(super) fn take_mounts(&mut self) -> Vec<BindMount> {
        std::mem::take(&mut self.mounts)
    }

    /// Has Firecracker find `source` by `name`.
    pub(super) fn provide(&mut self, name: &str, source: &Path, access: Access) -> Result<(), LaunchError> {
        let provide_error = |error| prepare_error("give the machine", source, error);
        let resolved = fs::canonicalize(source).map_err(provide_error)?;
        self.remove_stale(name)?;
        match &self.jail {
            None => symlinkat(&resolved, &self.directory, name).map_err(|error| provide_error(error.into())),
            Some(jail) => {
                let target = self.root.join(name);
                if access == Access::ReadOnce && !jail.may_read(&resolved).map_err(provide_error)? {
                    return fs::copy(&resolved, &target)
                        .and_then(|_| jail.change_owner(&target))
                        .map_err(provide_error);
                }
                jail.grant(&resolved, access).map_err(provide_error)?;
                fs::File::create_new(&target).map_err(provide_error)?;
                let read_only = matches!(access, Access::Read | Access::ReadOnce);
                self.mounts.push(bind_mount(&resolved, &target, read_only).map_err(provide_error)?);
                Ok(())
            }
        }
    }

    /// Makes the pipe that Firecracker logs to. The second is to be held until
    /// Firecracker has the pipe open: before, its end would be seen.
    pub(super) fn log_pipe(&mut self) -> Result<(pipe::Receiver, pipe::Sender), LaunchError> {
        let path = self.root.join(names::LOG_PIPE);
        let failed = |source| prepare_error("make", &path, source);
        self.remove_stale(names::LOG_PIPE)?;
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(&self.directory, names::LOG_PIPE, FileType::Fifo, mode, 0)
            .map_err(|error| failed(error.into()))?;
        if let Some(jail) = &self.jail {
            jail.change_owner(&path).map_err(failed)?;
        }
        let receiver = pipe::OpenOptions::new().open_receiver(&path).map_err(failed)?;
        let sender = pipe::OpenOptions::new().open_sender(&path).map_err(failed)?;
        Ok((receiver, sender))
    }

    /// Notes that there will be something called `name`, and removes what is
    /// left of another time.
    fn remove_stale(&mut self, name: &str) -> Result<(), LaunchError> {
        socket::remove(&self.directory, name)
            .map_err(|source| prepare_error("remove", &self.root.join(name), source))?;
        self.created.push(name.to_owned());
        Ok(())
    }

    /// Removes what was made, once Firecracker is gone.
    pub(super) fn clear(&mut self) {
        if let Some(jail) = self.jail.take() {
            jail.remove();
            self.created.clear();
        }
        for name in self.created.drain(..) {
            if let Err(error) = socket::remove(&self.directory, &name) {
                tracing::warn!(name, root = %self.root.display(), %error, "cannot remove");
            }
        }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A failure to make something ready.
pub(super) fn prepare_error(what: &str, path: &Path, source: io::Error) -> LaunchError {
    LaunchError::Prepare { what: format!("{what} {}", path.display()), source }
}

fn bind_mount(source: &Path, target: &Path, read_only: bool) -> io::Result<BindMount> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    Ok(BindMount { source: text(source)?, target: text(target)?, read_only })
}
