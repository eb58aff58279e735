//! A directory that goes when its machine does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Engine;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{Record, remove_dir};
use crate::stage::StageError;

/// A directory of this process's own. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The directory of this machine's sockets.
    pub(crate) fn create(engine: &Engine, record: &Record) -> Result<Self, StageError> {
        let path = engine.home().machine_run(&record.id);
        Ok(Self::create_at(path.clone()).at("make", &path)?)
    }

    /// Makes it; rests of another that had its name are removed first.
    fn create_at(path: PathBuf) -> io::Result<Self> {
        remove_dir(&path)?;
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Removes it before the machine goes.
    pub(crate) fn remove(&self) {
        remove_dir(&self.path).log_ignored("remove the run directory", &self.path);
    }

    /// Where it is.
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
