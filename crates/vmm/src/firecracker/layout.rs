//! The directory in which a machine's Firecracker runs, and the files in it.

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

/// How Firecracker uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads it, as other machines may.
    Read,
    /// Reads it once. The file may belong to the host, so its owner and mode must not change.
    ReadOnce,
    /// Writes it, exclusively.
    Own,
    /// Connects to it.
    Connect,
}

/// The directory in which Firecracker runs: the machine's own, or its jail's root. Files created there are
/// removed when this is dropped.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    directory: Arc<OwnedFd>,
    /// Names that we or Firecracker create.
    created: Vec<String>,
    mounts: Vec<BindMount>,
    jail: Option<Jail>,
}

impl Layout {
    /// In the machine's own directory.
    pub(super) fn open(directory: &Path) -> Result<Self, LaunchError> {
        Self::new(directory.to_owned(), None)
    }

    /// In a jail's root.
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

    /// The directory's path.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The open directory.
    pub(super) fn directory(&self) -> &Arc<OwnedFd> {
        &self.directory
    }

    /// The jail, if this is one.
    pub(super) fn jail(&self) -> Option<&Jail> {
        self.jail.as_ref()
    }

    /// Takes the mounts that the jail needs.
    pub(super) fn take_mounts(&mut self) -> Vec<BindMount> {
        std::mem::take(&mut self.mounts)
    }

    /// Makes `source` available to Firecracker as `name`.
    pub(super) fn provide(&mut self, name: &str, source: &Path, access: Access) -> Result<(), LaunchError> {
        let provide_error = |error| prepare_error("provide", source, error);
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

    /// Creates the pipe that Firecracker logs to. Keep the sender until Firecracker has opened the pipe:
    /// without any sender the receiver would see its end.
    pub(super) fn log_pipe(&mut self) -> Result<(pipe::Receiver, pipe::Sender), LaunchError> {
        let path = self.root.join(names::LOG_PIPE);
        let failed = |source| prepare_error("create", &path, source);
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

    /// Records that `name` will be created, and removes a leftover of that name.
    fn remove_stale(&mut self, name: &str) -> Result<(), LaunchError> {
        socket::remove(&self.directory, name)
            .map_err(|source| prepare_error("remove", &self.root.join(name), source))?;
        self.created.push(name.to_owned());
        Ok(())
    }

    /// Removes the created files, after Firecracker has exited.
    pub(super) fn clear(&mut self) {
        if let Some(jail) = self.jail.take() {
            jail.remove();
            self.created.clear();
        }
        for name in self.created.drain(..) {
            if let Err(error) = socket::remove(&self.directory, &name) {
                tracing::warn!(name, root = %self.root.display(), %error, "cannot remove a file of the machine");
            }
        }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The error of a failed preparation.
pub(super) fn prepare_error(action: &str, path: &Path, source: io::Error) -> LaunchError {
    LaunchError::Prepare { step: format!("{action} {}", path.display()), source }
}

fn bind_mount(source: &Path, target: &Path, read_only: bool) -> io::Result<BindMount> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    Ok(BindMount { source: text(source)?, target: text(target)?, read_only })
}
