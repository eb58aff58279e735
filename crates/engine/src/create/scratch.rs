//! A directory that is removed when its machine ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Engine;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{Record, remove_dir};
use crate::stage::StageError;

/// A directory that belongs to this process. Dropping the value removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The directory of this machine's sockets.
    pub(crate) fn create(engine: &Engine, record: &Record) -> Result<Self, StageError> {
        let path = engine.home().machine_run(&record.id);
        Ok(Self::create_at(path.clone()).at("create", &path)?)
    }

    /// Creates the directory. Leftovers of an earlier one with the same name are removed first.
    fn create_at(path: PathBuf) -> io::Result<Self> {
        remove_dir(&path)?;
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Removes the directory early, before the value is dropped.
    pub(crate) fn remove(&self) {
        remove_dir(&self.path).log_ignored("remove the run directory", &self.path);
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
