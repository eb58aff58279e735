//! A machine that this process owns: its directory is locked, and nothing else writes its record.

use std::path::PathBuf;

use mimeo_net::SubnetsExhausted;

use super::lock::MachineLock;
use super::registry::hide_and_remove;
use super::{LookupError, MachineName, ProcessIdentity, Record, RecordError, State, spare};
use crate::cause::chain;
use crate::ignored::LogIgnored;
use crate::io_error::IoError;
use crate::volumes::VolumeLock;

/// A machine's directory, locked by this process. Dropping it undoes the start of the machine, unless it was
/// persisted: a new machine is removed, an existing one gets its previous record back.
#[derive(Debug)]
pub struct Claim {
    /// The machine's record.
    pub record: Record,
    /// Its directory.
    pub dir: PathBuf,
    /// The path of its spare record.
    spare: PathBuf,
    /// The locks of its named volumes.
    pub(crate) volume_locks: Vec<VolumeLock>,
    lock: MachineLock,
    undo: Undo,
}

/// What dropping a claim does.
#[derive(Debug)]
enum Undo {
    /// Removes a machine that was created for this start.
    Remove,
    /// Writes the record that the machine had before.
    Restore(Box<Record>),
    /// The same, for a machine that was not started, only its disk used.
    RestoreAfterFiles(Box<Record>),
    /// Nothing: the machine has been started.
    Nothing,
}

/// Why a machine could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another machine has that name.
    #[error(
        "the name \"{name}\" is in use by machine {owner}: remove that with `mimeo rm {name}`, or choose another"
    )]
    NameTaken {
        /// The name.
        name: MachineName,
        /// That machine: the first 12 digits of its id.
        owner: String,
    },
    /// There is a machine with the requested id, or one whose id begins with the same 12 digits.
    #[error("the id {id} is in use by another machine: choose another")]
    IdTaken {
        /// The first 12 digits of the id.
        id: String,
    },
    /// The machine has a supervisor, or was removed.
    #[error("machine {id} has a supervisor, or was removed")]
    Supervised {
        /// The first 12 digits of its id.
        id: String,
    },
    /// The machine's supervisor died, and nothing has cleaned up after it yet.
    #[error("the supervisor of machine {name} has died: try again")]
    Unswept {
        /// Its name.
        name: MachineName,
    },
    /// The machine is removed when it exits, so no restart policy can apply.
    #[error("machine {name} has --rm: it is removed when it exits, so it cannot be started again")]
    Temporary {
        /// Its name.
        name: MachineName,
    },
    /// All subnets are in use.
    #[error(transparent)]
    Subnets(#[from] SubnetsExhausted),
    /// The machines could not be listed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An operation on a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Claim {
    /// Claims a machine that was created just now.
    pub(super) fn new(record: Record, dir: PathBuf, spare: PathBuf, lock: MachineLock) -> Self {
        Self { record, dir, spare, volume_locks: Vec::new(), lock, undo: Undo::Remove }
    }

    /// Claims an existing machine without changing its state, to use its disk for a moment.
    pub(super) fn for_files(dir: PathBuf, spare: PathBuf, lock: MachineLock, record: Record) -> Self {
        let undo = Undo::RestoreAfterFiles(Box::new(record.clone()));
        Self { record, dir, spare, volume_locks: Vec::new(), lock, undo }
    }

    /// Returns whether the claim is for the machine's files only.
    pub(crate) fn is_for_files(&self) -> bool {
        matches!(self.undo, Undo::RestoreAfterFiles(_))
    }

    /// Claims an existing machine for a start, and records that this process is its supervisor.
    pub(super) fn existing(
        record: Record,
        dir: PathBuf,
        spare: PathBuf,
        lock: MachineLock,
        previous: Record,
    ) -> Result<Self, ClaimError> {
        let undo = Undo::Restore(Box::new(previous));
        let mut claim = Self { record, dir, spare, volume_locks: Vec::new(), lock, undo };
        let record = &mut claim.record;
        record.state = State::Creating;
        record.supervisor = ProcessIdentity::own();
        record.vmm = None;
        // A snapshot server's clone ends with its server; started again, it is a machine like any other.
        record.serve = None;
        record.adopt_source_env();
        // Otherwise the sweep would take it for a clone that never ran, and remove it.
        record.boot_method = None;
        record.origin = None;
        record.health = None;
        record.disk_error = None;
        record.identity.clear();
        // A full disk must not keep a machine from starting.
        claim.store_or_spare()?;
        Ok(claim)
    }

    /// Returns whether the machine had been created before this claim.
    pub(crate) fn is_existing(&self) -> bool {
        matches!(self.undo, Undo::Restore(_))
    }

    /// Returns whether the machine was created for this start.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.undo, Undo::Remove)
    }

    /// Returns a handle of the machine's lock. The machine stays owned by this process until all are dropped.
    pub(crate) fn lock(&self) -> MachineLock {
        self.lock.clone()
    }

    /// Writes the record in its current state.
    ///
    /// # Errors
    /// If the write fails.
    pub fn store(&self) -> Result<(), RecordError> {
        self.record.store(&self.dir)
    }

    /// Writes the record of a machine that runs or has run. If its disk is full or read-only, the record is kept
    /// in the run directory, where the registry finds it.
    ///
    /// # Errors
    /// If the record is not in its place: the caller tries again later.
    pub(crate) fn store_or_spare(&self) -> Result<(), RecordError> {
        spare::store_or_spare(&self.record, &self.dir, &self.spare)
    }

    /// Keeps the machine as it is when this value is dropped.
    pub fn persist(&mut self) {
        self.undo = Undo::Nothing;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        match &self.undo {
            // The next command sweeps a directory that could not be removed.
            Undo::Remove => hide_and_remove(&self.dir).log_ignored("remove", &self.dir),
            Undo::Restore(previous) | Undo::RestoreAfterFiles(previous) => {
                if let Err(error) = spare::store_or_spare(previous, &self.dir, &self.spare) {
                    let error = chain(&error);
                    tracing::warn!(component = "registry", machine = %previous.name, error, "cannot restore the record of a machine that was not started");
                }
            }
            Undo::Nothing => {}
        }
    }
}
