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
use crate::spawn::Mount;

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
pub(super) struct Place {
    root: PathBuf,
    held: Arc<OwnedFd>,
    /// What is there by our doing or Firecracker's.
    made: Vec<String>,
    mounts: Vec<Mount>,
    jail: Option<Jail>,
}

impl Place {
    /// The machine's own directory.
    pub(super) fn open(directory: &Path) -> Result<Self, LaunchError> {
        Self::new(directory.to_owned(), None)
    }

    /// A jail's root.
    pub(super) fn jailed(jail: Jail) -> Result<Self, LaunchError> {
        Self::new(jail.root().to_owned(), Some(jail))
    }

    fn new(root: PathBuf, jail: Option<Jail>) -> Result<Self, LaunchError> {
        let held = socket::hold(&root).map_err(|source| {
            jail.iter().for_each(Jail::remove);
            cannot("open", &root, source)
        })?;
        let mut place = Self { root, held: Arc::new(held), made: Vec::new(), mounts: Vec::new(), jail };
        for name in [names::API, names::LINK] {
            place.vacate(name)?;
        }
        Ok(place)
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory, held open.
    pub(super) fn held(&self) -> &Arc<OwnedFd> {
        &self.held
    }

    /// The jail, if it is one.
    pub(super) fn jail(&self) -> Option<&Jail> {
        self.jail.as_ref()
    }

    /// What is to be seen in the jail, for who starts it.
    pub(super) fn take_mounts(&mut self) -> Vec<Mount> {
        std::mem::take(&mut self.mounts)
    }

    /// Has Firecracker find `from` by `name`.
    pub(super) fn give(&mut self, name: &str, from: &Path, access: Access) -> Result<(), LaunchError> {
        let to_give = |source| cannot("give the machine", from, source);
        let from = fs::canonicalize(from).map_err(to_give)?;
        self.vacate(name)?;
        match &self.jail {
            None => symlinkat(&from, &self.held, name).map_err(|error| to_give(error.into())),
            Some(jail) => {
                let to = self.root.join(name);
                if access == Access::ReadOnce && !jail.may_read(&from).map_err(to_give)? {
                    return fs::copy(&from, &to).and_then(|_| jail.own(&to)).map_err(to_give);
                }
                jail.admit(&from, access).map_err(to_give)?;
                fs::File::create_new(&to).map_err(to_give)?;
                let read_only = matches!(access, Access::Read | Access::ReadOnce);
                self.mounts.push(mount(&from, &to, read_only).map_err(to_give)?);
                Ok(())
            }
        }
    }

    /// Makes the pipe that Firecracker logs to. The second is to be held until
    /// Firecracker has the pipe open: before, its end would be seen.
    pub(super) fn log_pipe(&mut self) -> Result<(pipe::Receiver, pipe::Sender), LaunchError> {
        let path = self.root.join(names::LOG_PIPE);
        let failed = |source| cannot("make", &path, source);
        self.vacate(names::LOG_PIPE)?;
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(&self.held, names::LOG_PIPE, FileType::Fifo, mode, 0)
            .map_err(|error| failed(error.into()))?;
        if let Some(jail) = &self.jail {
            jail.own(&path).map_err(failed)?;
        }
        let receiver = pipe::OpenOptions::new().open_receiver(&path).map_err(failed)?;
        let sender = pipe::OpenOptions::new().open_sender(&path).map_err(failed)?;
        Ok((receiver, sender))
    }

    /// Notes that there will be something called `name`, and removes what is
    /// left of another time.
    fn vacate(&mut self, name: &str) -> Result<(), LaunchError> {
        socket::remove(&self.held, name).map_err(|source| cannot("remove", &self.root.join(name), source))?;
        self.made.push(name.to_owned());
        Ok(())
    }

    /// Removes what was made, once Firecracker is gone.
    pub(super) fn clear(&mut self) {
        if let Some(jail) = self.jail.take() {
            jail.remove();
            self.made.clear();
        }
        for name in self.made.drain(..) {
            if let Err(error) = socket::remove(&self.held, &name) {
                tracing::warn!(name, root = %self.root.display(), %error, "cannot remove");
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A failure to make something ready.
pub(super) fn cannot(what: &str, path: &Path, source: io::Error) -> LaunchError {
    LaunchError::Prepare { what: format!("{what} {}", path.display()), source }
}

fn mount(from: &Path, to: &Path, read_only: bool) -> io::Result<Mount> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    Ok(Mount { from: text(from)?, to: text(to)?, read_only })
}
