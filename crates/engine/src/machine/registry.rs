//! The machines of a home directory.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use super::lock::{MachineLock, is_supervised, lock_orphan, user_of_files};
use super::record::FILE;
use super::subnets::allocate_network;
use super::{
    Changes, Claim, ClaimError, CloneOverrides, Exit, MachineName, MachineSpec, Record, RecordError,
    RestartPolicy, State, spare,
};
use crate::Home;
use crate::cause::chain;
use crate::id::{MachineId, SnapshotId};
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;

/// The prefix of directories of machines that are being created or removed.
const UNFINISHED: &str = ".new-";

/// The machines of a home directory.
#[derive(Debug, Clone)]
pub struct Registry {
    home: Home,
    /// Machines whose supervisor is gone, which this process could not write to their records.
    crashed: Arc<Mutex<HashSet<MachineId>>>,
}

/// A machine found in the registry.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its record.
    pub record: Record,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether its supervisor runs.
    pub supervised: bool,
}

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The machine was removed.
    Removed,
    /// There is no such machine any more.
    Missing,
    /// It has a supervisor.
    Supervised,
}

/// Selects a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Its name, its id, or a prefix of its id.
    NameOrId(String),
    /// The PID of its supervisor, or of the `mimeo run` that started it.
    Pid(u32),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameOrId(word) => f.write_str(word),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}

/// Why the machines could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the machines in {}", path.display())]
pub struct LookupError {
    path: PathBuf,
    source: io::Error,
}

/// Why no machine was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No machine matches. The text is podman's: scripts look for it.
    #[error("no container with name or ID {:?} found: no such container", .0.to_string())]
    None(Selector),
    /// A machine matches, but its record cannot be read.
    #[error("machine {id} has no readable record, see {}: `mimeo rm --force {id}` removes it", dir.display())]
    Unreadable {
        /// The name of its directory: the id's first 12 digits.
        id: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// Several machines match.
    #[error("{word:?} is the beginning of several ids: {}", ids.join(", "))]
    Several {
        /// The prefix that was given.
        word: String,
        /// The ids' first 12 digits.
        ids: Vec<String>,
    },
    /// The machines could not be listed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl Registry {
    /// Returns the registry of `home`.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { home, crashed: Arc::default() }
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Lists all machines, the newest last. A machine without a readable record is logged and left
    /// out. A machine whose supervisor is gone has exited, even where the sweep could not write that to its record.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Found>, LookupError> {
        let mut all = self.list_stored()?;
        all.iter_mut().for_each(|found| self.correct(found));
        Ok(all)
    }

    /// Lists all machines by their records, as [`Registry::list`] does.
    pub(crate) fn list_stored(&self) -> Result<Vec<Found>, LookupError> {
        let mut found: Vec<_> = self.dirs()?.into_iter().filter_map(|dir| self.load(dir)).collect();
        found.sort_by_key(|found| found.record.times.created);
        Ok(found)
    }

    /// Finds the one machine that `selector` names.
    ///
    /// # Errors
    /// If none matches, or more than one.
    pub fn find(&self, selector: &Selector) -> Result<Found, FindError> {
        let all = self.list()?;
        match selector {
            Selector::Pid(pid) => all
                .into_iter()
                .find(|found| found.supervised && found.record.has_process(*pid))
                .ok_or_else(|| FindError::None(selector.clone())),
            Selector::NameOrId(word) => match find_by_name_or_id(all, word) {
                Err(none @ FindError::None(_)) => Err(self.unreadable_error(word)?.unwrap_or(none)),
                other => other,
            },
        }
    }

    /// Reads one machine by its full id; `None` if it does not exist.
    #[must_use]
    pub fn read(&self, id: &MachineId) -> Option<Found> {
        let mut found = self.read_stored(id)?;
        self.correct(&mut found);
        Some(found)
    }

    /// Reads the machine in the directory of this name, as [`Registry::read`] does.
    pub(super) fn read_named(&self, name: &str) -> Option<Found> {
        let mut found = self.load(self.home.machines().join(name))?;
        self.correct(&mut found);
        Some(found)
    }

    /// Returns the names of the directories of all machines.
    pub(super) fn dir_names(&self) -> Result<HashSet<String>, LookupError> {
        let name = |dir: PathBuf| Some(dir.file_name()?.to_string_lossy().into_owned());
        Ok(self.dirs()?.into_iter().filter_map(name).collect())
    }

    /// Remembers that the machine's supervisor is gone, although its record does not say so.
    pub(crate) fn remember_crash(&self, id: &MachineId) {
        self.crashed.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    fn correct(&self, found: &mut Found) {
        if self.crashed.lock().unwrap_or_else(PoisonError::into_inner).contains(&found.record.id) {
            found.mark_crashed_if_orphan();
        }
    }

    /// Reads one machine by its record, as [`Registry::read`] does.
    pub(crate) fn read_stored(&self, id: &MachineId) -> Option<Found> {
        self.load(self.home.machine(id))
    }

    /// Writes the record of a machine without a supervisor, whose lock the caller holds.
    pub(crate) fn store_orphan(&self, found: &Found) -> Result<(), RecordError> {
        spare::store_or_spare(&found.record, &found.dir, &self.spare(&found.record.id))
    }

    /// Returns whether the machine's record waits in the run directory for space on the home's disk.
    pub(crate) fn has_spare_record(&self, id: &MachineId) -> bool {
        self.spare(id).exists()
    }

    fn spare(&self, id: &MachineId) -> PathBuf {
        spare::path(&self.home, id)
    }

    /// Reads the record of the machine in `dir`, wherever it could be written.
    fn load_record(&self, dir: &Path) -> Result<Record, RecordError> {
        let record = Record::load(dir)?;
        Ok(spare::load(&self.spare(&record.id), dir).unwrap_or(record))
    }

    fn load(&self, dir: PathBuf) -> Option<Found> {
        // In this order: a supervisor that is gone by now has written its last record before.
        let supervised = is_supervised(&dir);
        match self.load_record(&dir) {
            Ok(record) => Some(Found { supervised, record, dir }),
            // The machine is being removed, or its record was set aside before: the sweep reports that.
            Err(RecordError::Missing { .. }) => None,
            Err(error) => {
                tracing::warn!(component = "registry", "{}", chain(&error));
                None
            }
        }
    }

    /// Returns the snapshots that machines of this home were started from.
    pub(crate) fn origins(&self) -> Result<HashSet<SnapshotId>, LookupError> {
        Ok(self.list()?.into_iter().filter_map(|found| found.record.origin).collect())
    }

    /// Returns whether the machine's supervisor runs.
    #[must_use]
    pub fn is_supervised(&self, id: &MachineId) -> bool {
        is_supervised(&self.home.machine(id))
    }

    /// Returns the PID of the command that uses the disk of a machine without a supervisor, if one does.
    pub(crate) fn user_of_files(&self, id: &MachineId) -> Option<u32> {
        user_of_files(&self.home.machine(id))
    }

    /// Returns the directories of machines whose record was set aside.
    pub(crate) fn unreadable_dirs(&self) -> Result<Vec<PathBuf>, LookupError> {
        let is_unreadable = |dir: &PathBuf| !dir.join(FILE).exists() && has_corrupt_record(dir);
        Ok(self.dirs()?.into_iter().filter(is_unreadable).collect())
    }

    /// Returns the error for the only machine whose id matches `word` and whose record was set aside.
    fn unreadable_error(&self, word: &str) -> Result<Option<FindError>, LookupError> {
        let matches_id = |dir: &PathBuf| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            !word.is_empty() && (name.starts_with(word) || word.starts_with(&*name))
        };
        let mut dirs: Vec<_> = self.unreadable_dirs()?.into_iter().filter(matches_id).collect();
        let dir = if dirs.len() == 1 { dirs.pop() } else { None };
        Ok(dir.map(|dir| {
            let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            FindError::Unreadable { id, dir }
        }))
    }

    /// Removes the directory of a machine whose record cannot be read. Returns `false` if its
    /// supervisor runs.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_unreadable(&self, id: &str) -> io::Result<bool> {
        let dir = self.home.machines().join(id);
        let Some(_lock) = lock_orphan(&dir) else { return Ok(false) };
        remove_dir(&self.home.run().join("machines").join(id))?;
        remove_dir(&dir).map(|()| true)
    }

    /// Creates and locks the directory of a new machine, and thereby reserves its id, name and
    /// subnet.
    ///
    /// # Errors
    /// If the name is taken, no subnet is free, or an operation on a file fails.
    pub fn claim(&self, spec: MachineSpec) -> Result<Claim, ClaimError> {
        self.claim_as(spec, None, |_| {})
    }

    /// Like [`Registry::claim`]; the machine gets this id, or a random one, and `initialize` fills in what is known of the
    /// machine already.
    pub(crate) fn claim_as(
        &self,
        spec: MachineSpec,
        id: Option<MachineId>,
        initialize: impl FnOnce(&mut Record),
    ) -> Result<Claim, ClaimError> {
        let _registry_lock = self.lock()?;
        let id = id.unwrap_or_else(MachineId::random);
        // Before the name: an earlier attempt to make this machine, which is being undone, has that name, too.
        self.check_id(&id)?;
        let others = self.list()?;
        let name = choose_name(&spec, &others)?;
        let mut record = Record::new(id, name, spec);
        record.network = allocate_network(&record, &others, None)?;
        initialize(&mut record);
        self.create_claim(record)
    }

    /// Applies the name, the ports and the environment of a request to a machine that was claimed
    /// before, such as a clone of a pool.
    ///
    /// # Errors
    /// If the name is taken, or the record cannot be written; the machine is unchanged then.
    pub(crate) fn apply_overrides(
        &self,
        claim: &mut Claim,
        overrides: CloneOverrides,
    ) -> Result<(), ClaimError> {
        let _registry_lock = self.lock()?;
        let mut record = claim.record.clone();
        record.spec.name.clone_from(&overrides.name);
        if overrides.name.is_some() {
            let mut others = self.list()?;
            others.retain(|other| other.record.id != record.id);
            record.name = choose_name(&record.spec, &others)?;
        }
        record.spec.remove = overrides.remove;
        if let Some(labels) = overrides.labels {
            record.spec.labels = labels;
        }
        record.spec.env.extend(overrides.env.clone());
        record.process.env.extend(overrides.env);
        if let (Some(ports), Some(network)) = (overrides.ports, &mut record.network) {
            record.spec.ports.clone_from(&ports);
            network.ports = ports;
        }
        record.waiting = false;
        record.times.created = jiff::Timestamp::now();
        record.store(&claim.dir)?;
        claim.record = record;
        Ok(())
    }

    /// Claims a machine that has no supervisor, to start it again. Dropping the claim restores its record.
    ///
    /// # Errors
    /// If it has a supervisor, what a dead supervisor left was not swept, or it was removed.
    pub(crate) fn reclaim(&self, id: &MachineId) -> Result<Claim, ClaimError> {
        let _registry_lock = self.lock()?;
        let dir = self.home.machine(id);
        let lock = MachineLock::acquire(&dir).at("lock", &dir)?;
        let lock = lock.ok_or_else(|| ClaimError::Supervised { id: id.short().to_owned() })?;
        let previous = self.load_record(&dir)?;
        if previous.phase().is_live() {
            return Err(ClaimError::Unswept { name: previous.name });
        }
        let mut record = previous.clone();
        record.restart_count = 0;
        record.stopped_by_user = false;
        let mut others = self.list()?;
        others.retain(|other| other.record.id != record.id);
        record.network = allocate_network(&record, &others, previous.network.as_ref())?;
        Claim::existing(record, dir, self.spare(id), lock, previous)
    }

    /// Claims a machine that has no supervisor, without changing its state, to use its disk for a moment.
    ///
    /// # Errors
    /// As [`Registry::reclaim`].
    pub(crate) fn claim_for_files(&self, id: &MachineId) -> Result<Claim, ClaimError> {
        let dir = self.home.machine(id);
        let lock = MachineLock::acquire_for_files(&dir).at("lock", &dir)?;
        let lock = lock.ok_or_else(|| ClaimError::Supervised { id: id.short().to_owned() })?;
        let record = self.load_record(&dir)?;
        if record.phase().is_live() {
            return Err(ClaimError::Unswept { name: record.name });
        }
        Ok(Claim::for_files(dir, self.spare(id), lock, record))
    }

    /// Claims a machine whose lock this process has kept since its last run, to start it again.
    pub(crate) fn reclaim_own(&self, previous: Record, lock: MachineLock) -> Result<Claim, ClaimError> {
        let dir = self.home.machine(&previous.id);
        let mut record = previous.clone();
        record.restart_count += 1;
        Claim::existing(record, dir, self.spare(&previous.id), lock, previous)
    }

    /// Changes a machine that has no supervisor.
    ///
    /// # Errors
    /// If it has one, the name is taken, or the record cannot be written; the machine is unchanged then.
    pub fn edit(&self, id: &MachineId, changes: &Changes) -> Result<Record, ClaimError> {
        let dir = self.home.machine(id);
        let lock = MachineLock::acquire(&dir).at("lock", &dir)?;
        let _lock = lock.ok_or_else(|| ClaimError::Supervised { id: id.short().to_owned() })?;
        let record = self.load_record(&dir)?;
        if record.phase().is_live() {
            return Err(ClaimError::Unswept { name: record.name });
        }
        self.store_changes(&dir, record, changes)
    }

    /// Applies the changes to the record of a machine that this process has locked, and stores it.
    pub(crate) fn store_changes(
        &self,
        dir: &Path,
        mut record: Record,
        changes: &Changes,
    ) -> Result<Record, ClaimError> {
        if record.spec.remove && changes.restart.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(ClaimError::Temporary { name: record.name });
        }
        let _registry_lock = self.lock()?;
        if let Some(name) = &changes.name {
            let others = self.list()?;
            check_name(name, others.iter().filter(|other| other.record.id != record.id))?;
        }
        changes.apply(&mut record);
        record.store(dir)?;
        Ok(record)
    }

    /// Records that a user has stopped a machine whose supervisor has ended. A machine that has a supervisor
    /// again, or was removed, is left alone.
    pub(crate) fn mark_stopped_by_user(&self, id: &MachineId) -> Result<(), ClaimError> {
        let dir = self.home.machine(id);
        let Some(_lock) = MachineLock::acquire(&dir).at("lock", &dir)? else { return Ok(()) };
        let mut record = match self.load_record(&dir) {
            Err(RecordError::Missing { .. }) => return Ok(()),
            record => record?,
        };
        record.stopped_by_user = true;
        Ok(record.store(&dir)?)
    }

    /// Removes the directories of a machine that has no supervisor, while no other process can start it.
    ///
    /// # Errors
    /// If a directory cannot be removed.
    pub(crate) fn remove_unsupervised(&self, id: &MachineId) -> io::Result<Removal> {
        let dir = self.home.machine(id);
        match MachineLock::acquire(&dir)? {
            Some(_lock) => self.remove(id).map(|()| Removal::Removed),
            None if dir.exists() => Ok(Removal::Supervised),
            None => Ok(Removal::Missing),
        }
    }

    /// Removes the directories of a machine that this process has locked.
    ///
    /// # Errors
    /// If a directory cannot be removed.
    pub fn remove(&self, id: &MachineId) -> io::Result<()> {
        remove_dir(&self.home.machine_run(id))?;
        hide_and_remove(&self.home.machine(id))?;
        spare::remove(&self.spare(id));
        Ok(())
    }

    /// Returns the directories of machines that were only partly created or removed, and that no
    /// process works on. Reliable only under the registry's lock: a process that creates a machine
    /// holds that lock until the machine's directory has its own.
    pub(crate) fn unfinished_dirs(&self) -> Result<Vec<PathBuf>, LookupError> {
        let dirs = self.entries()?.into_iter();
        Ok(dirs.filter(|dir| is_unfinished(dir) && !is_supervised(dir)).collect())
    }

    fn dirs(&self) -> Result<Vec<PathBuf>, LookupError> {
        Ok(self.entries()?.into_iter().filter(|dir| !is_unfinished(dir) && dir.is_dir()).collect())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, LookupError> {
        let path = self.home.machines();
        let entries = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        entries.map_err(|source| LookupError { path, source })
    }

    /// Locks the registry. A process that creates a machine holds this lock until the machine is listed.
    pub(crate) fn lock(&self) -> Result<File, ClaimError> {
        let path = self.home.home().join("machines.lock");
        let file = File::create(&path).at("lock", &path)?;
        flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        Ok(file)
    }

    /// Refuses an id that another machine has, also one whose record cannot be read. Removes what a process has left that was
    /// killed while it created a machine of this id: under the registry's lock none is being created.
    fn check_id(&self, id: &MachineId) -> Result<(), ClaimError> {
        let taken = || ClaimError::IdTaken { id: id.short().to_owned() };
        if fs::symlink_metadata(self.home.machine(id)).is_ok() {
            return Err(taken());
        }
        let unfinished = self.unfinished_dir(id);
        Ok(remove_dir(&unfinished).at("remove", &unfinished)?)
    }

    fn unfinished_dir(&self, id: &MachineId) -> PathBuf {
        self.home.machines().join(format!("{UNFINISHED}{}", id.short()))
    }

    fn create_claim(&self, record: Record) -> Result<Claim, ClaimError> {
        let dir = self.home.machine(&record.id);
        let spare = self.spare(&record.id);
        let unfinished = self.unfinished_dir(&record.id);
        fs::create_dir(&unfinished).at("create", &unfinished)?;
        let locked = MachineLock::create(&unfinished)
            .at("lock", &unfinished)
            .map_err(ClaimError::from)
            .and_then(|lock| {
                record.store(&unfinished)?;
                fs::rename(&unfinished, &dir).at("rename", &unfinished)?;
                Ok(lock)
            });
        match locked {
            Ok(lock) => Ok(Claim::new(record, dir, spare, lock)),
            Err(error) => {
                remove_dir(&unfinished).log_ignored("remove", &unfinished);
                Err(error)
            }
        }
    }
}

/// The exit code of a process that SIGKILL ended, as a shell shows it.
const EXIT_SIGKILL: i32 = 137;

impl Found {
    /// Marks a machine as exited whose supervisor is gone and has not recorded how it exited.
    pub(crate) fn mark_crashed_if_orphan(&mut self) {
        if self.supervised || !self.record.phase().is_live() {
            return;
        }
        let error = format!(
            "supervisor (pid {}) exited unexpectedly (killed, or the host rebooted)",
            self.record.supervisor.pid
        );
        self.record.times.finished = Some(jiff::Timestamp::now());
        // A machine that waited for its restart has exited before.
        let exit = match &self.record.state {
            State::Restarting(exit) => exit.clone(),
            _ => Exit { code: EXIT_SIGKILL, out_of_memory: false, error: Some(error) },
        };
        self.record.state = State::Exited(exit);
    }
}

fn has_corrupt_record(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let prefix = format!("{FILE}.corrupt-");
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

fn find_by_name_or_id(all: Vec<Found>, word: &str) -> Result<Found, FindError> {
    if let Some(found) = all.iter().find(|found| found.record.name.as_str() == word) {
        return Ok(found.clone());
    }
    let mut matching: Vec<_> = all
        .into_iter()
        .filter(|found| !word.is_empty() && found.record.id.as_str().starts_with(word))
        .collect();
    match matching.len() {
        0 => Err(FindError::None(Selector::NameOrId(word.to_owned()))),
        1 => Ok(matching.remove(0)),
        _ => Err(FindError::Several {
            word: word.to_owned(),
            ids: matching.iter().map(|found| found.record.id.short().to_owned()).collect(),
        }),
    }
}

fn choose_name(spec: &MachineSpec, others: &[Found]) -> Result<MachineName, ClaimError> {
    if let Some(name) = &spec.name {
        return check_name(name, others).map(|()| name.clone());
    }
    loop {
        let name = MachineName::random();
        if check_name(&name, others).is_ok() {
            return Ok(name);
        }
    }
}

/// Refuses a name that another machine has.
fn check_name<'a>(name: &MachineName, others: impl IntoIterator<Item = &'a Found>) -> Result<(), ClaimError> {
    match others.into_iter().find(|found| found.record.name == *name) {
        Some(found) => {
            Err(ClaimError::NameTaken { name: name.clone(), owner: found.record.id.short().to_owned() })
        }
        None => Ok(()),
    }
}

/// Whether the directory is not one of a machine, or not yet, or no longer.
pub(super) fn is_unfinished(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// Removes a machine's directory: renames it first, so that it disappears atomically.
pub(super) fn hide_and_remove(dir: &Path) -> io::Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let hidden = dir.with_file_name(format!("{UNFINISHED}gone-{name}"));
    match fs::rename(dir, &hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    remove_dir(&hidden)
}

pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
        (dir, Registry::new(home))
    }

    fn named(name: &str) -> MachineSpec {
        MachineSpec { name: Some(name.parse().expect("a name")), ..MachineSpec::new("busybox") }
    }

    #[test]
    fn a_claim_is_found_until_it_is_dropped() {
        let (_dir, registry) = registry();
        let claim = registry.claim(named("web")).expect("claimed");
        let id = claim.record.id.clone();
        let own = std::process::id();
        for selector in [
            Selector::NameOrId("web".into()),
            Selector::NameOrId(id.to_string()),
            Selector::NameOrId(id.short()[..4].into()),
            Selector::Pid(own),
        ] {
            let found = registry.find(&selector).expect("found");
            assert!(found.supervised && found.record.id == id, "{selector}");
        }
        drop(claim);
        assert!(matches!(registry.find(&Selector::NameOrId("web".into())), Err(FindError::None(_))));
        assert!(registry.list().expect("listed").is_empty());
    }

    #[test]
    fn a_requested_id_is_used_once() {
        let (_dir, registry) = registry();
        let id = MachineId::random();
        let claim = |id: &MachineId| registry.claim_as(named("web"), Some(id.clone()), |_| {});
        // A process that was killed while it created the machine has left this.
        fs::create_dir(registry.unfinished_dir(&id)).expect("created");
        let first = claim(&id).expect("claimed");
        assert_eq!(first.record.id, id);
        let other = registry.claim_as(named("other"), Some(id.clone()), |_| {});
        assert!(matches!(other, Err(ClaimError::IdTaken { .. })), "{other:?}");
        // The directory is named by the first digits.
        let similar = MachineId::try_from(format!("{}{}", id.short(), "0".repeat(52))).expect("an id");
        let other = registry.claim_as(named("other"), Some(similar), |_| {});
        assert!(matches!(other, Err(ClaimError::IdTaken { .. })), "{other:?}");
        drop(first);
        claim(&id).expect("claimed again");
    }

    #[test]
    fn names_and_networks_are_unique() {
        let (_dir, registry) = registry();
        let first = registry.claim(named("web")).expect("claimed");
        assert!(matches!(registry.claim(named("web")), Err(ClaimError::NameTaken { .. })));
        let second = registry.claim(named("other")).expect("claimed");
        let ip = |claim: &Claim| claim.record.network.as_ref().map(|network| network.ip);
        assert_ne!(ip(&first), ip(&second));
    }

    #[test]
    fn a_persisted_machine_stays_until_it_is_removed() {
        let (_dir, registry) = registry();
        let mut claim = registry.claim(named("web")).expect("claimed");
        let id = claim.record.id.clone();
        claim.persist();
        drop(claim);
        assert!(!registry.find(&Selector::NameOrId("web".into())).expect("found").supervised);
        registry.remove(&id).expect("removed");
        assert!(registry.list().expect("listed").is_empty());
        assert!(registry.unfinished_dirs().expect("listed").is_empty());
    }

    #[test]
    fn a_machine_whose_record_cannot_be_corrected_has_exited_nevertheless() {
        let (_dir, registry) = registry();
        let mut claim = registry.claim(named("web")).expect("claimed");
        claim.record.state = State::Running;
        claim.store().expect("stored");
        let id = claim.record.id.clone();
        assert!(registry.read(&id).expect("found").record.exit().is_none());
        registry.remember_crash(&id);
        assert!(registry.read(&id).expect("found").record.exit().is_none());
        claim.persist();
        drop(claim);
        assert_eq!(
            registry.read(&id).expect("found").record.exit().map(|exit| exit.code),
            Some(EXIT_SIGKILL)
        );
        assert!(registry.read_stored(&id).expect("found").record.exit().is_none());
    }

    #[test]
    fn a_record_that_cannot_be_written_is_found_in_the_run_directory() {
        let (_dir, registry) = registry();
        let mut claim = registry.claim(named("web")).expect("claimed");
        let id = claim.record.id.clone();
        claim.record.state = State::Exited(Exit { code: 3, out_of_memory: false, error: None });
        let dir = std::mem::replace(&mut claim.dir, PathBuf::from("/nowhere"));
        claim.store_or_spare().expect_err("no directory");
        assert_eq!(registry.read(&id).expect("found").record.exit().map(|exit| exit.code), Some(3));
        assert!(registry.has_spare_record(&id));
        claim.dir = dir;
        claim.record.state = State::Exited(Exit { code: 4, out_of_memory: false, error: None });
        claim.store_or_spare().expect("stored");
        assert_eq!(registry.read(&id).expect("found").record.exit().map(|exit| exit.code), Some(4));
        assert!(!registry.has_spare_record(&id));
        claim.record.state = State::Running;
        claim.dir = PathBuf::from("/nowhere");
        claim.store_or_spare().expect_err("no directory");
        registry.remove(&id).expect("removed");
        assert!(!registry.has_spare_record(&id));
    }
}
