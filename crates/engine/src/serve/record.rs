//! What stands on the disk of a server.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::id::SnapshotId;
use crate::io_error::{IoContext, IoError};
use crate::machine::{ProcessIdentity, remove_dir};
use crate::snapshot::{LoadError, Snapshot, StoreError};
use crate::{Engine, Home};

const FILE: &str = "serve.json";
/// Locked by the server; the kernel lets go of it however that ends.
const LOCK: &str = "lock";
/// What the directory of a server that is being made begins with.
const DRAFT_PREFIX: &str = ".new-";
pub(super) const SOCKET: &str = "control.sock";
const FORMAT: u32 = 1;
const ID_DIGITS: usize = 12;

/// A server of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeRecord {
    /// The number of this shape.
    pub format: u32,
    /// Its id: 12 hexadecimal digits.
    pub id: String,
    /// What it serves.
    pub snapshot: SnapshotId,
    /// What people call that.
    #[serde(rename = "called")]
    pub snapshot_name: String,
    /// The server.
    pub process: ProcessIdentity,
    /// Copies that it keeps ready.
    pub pool: usize,
    /// Where it is asked.
    pub socket: PathBuf,
    /// When it began.
    pub created: jiff::Timestamp,
}

/// Why a snapshot is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The snapshot cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Snapshots cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The snapshot's driver maps memory, and takes it in no other way.
    #[error("the {driver} driver maps its copies' memory by itself: serve without --pager")]
    NoPager {
        /// Its name.
        driver: String,
    },
    /// There is no such server.
    #[error("no server of snapshots has id or process {0:?}: `mimeo snapshot ls` lists them")]
    NotFound(String),
}

/// A server's own directories. Dropping it removes them.
#[derive(Debug)]
pub(super) struct ServeClaim {
    pub(super) record: ServeRecord,
    dir: PathBuf,
    run: PathBuf,
    _lock: File,
}

impl ServeClaim {
    pub(super) fn create(engine: &Engine, snapshot: &Snapshot, pool: usize) -> Result<Self, ServeError> {
        let id = uuid::Uuid::new_v4().simple().to_string()[..ID_DIGITS].to_owned();
        let home = engine.home();
        let (dir, run) = (home.serves().join(&id), run_dir(home, &id));
        let draft = home.serves().join(format!("{DRAFT_PREFIX}{id}"));
        let record = ServeRecord {
            format: FORMAT,
            id,
            snapshot: snapshot.manifest.id.clone(),
            snapshot_name: snapshot.manifest.display_name().to_owned(),
            process: ProcessIdentity::own(),
            pool,
            socket: run.join(SOCKET),
            created: jiff::Timestamp::now(),
        };
        fs::create_dir(&run).at("make", &run)?;
        fs::create_dir(&draft).at("make", &draft)?;
        let lock = File::create(draft.join(LOCK)).at("make", &draft)?;
        flock(&lock, FlockOperation::LockExclusive).at("lock", &draft)?;
        durable::write_json(&draft.join(FILE), &record).at("write", &draft)?;
        fs::rename(&draft, &dir).at("rename", &draft)?;
        Ok(Self { record, dir, run, _lock: lock })
    }
}

impl ServeClaim {
    /// Where its sockets are.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run
    }
}

impl Drop for ServeClaim {
    fn drop(&mut self) {
        // What stays is swept by the next command.
        remove_dir(&self.run).ok();
        remove_dir(&self.dir).ok();
    }
}

fn run_dir(home: &Home, id: &str) -> PathBuf {
    home.run().join("serves").join(id)
}

/// All servers that live, the newest last.
///
/// # Errors
/// When they cannot be listed.
pub fn list(engine: &Engine) -> io::Result<Vec<ServeRecord>> {
    let mut serves: Vec<_> =
        dirs(engine)?.iter().filter(|dir| is_owned(dir)).filter_map(|dir| read(dir)).collect();
    serves.sort_by_key(|serve| serve.created);
    Ok(serves)
}

/// The server of this process, or of this id or the beginning of it that no other has. Digits alone are a process, as long as
/// they are not a whole id: which server that would be is a matter of chance otherwise.
///
/// # Errors
/// When there is none.
pub fn find(engine: &Engine, id_or_pid: &str) -> Result<ServeRecord, ServeError> {
    let dir = engine.home().serves();
    let mut serves = list(engine).at("list", &dir)?;
    let is_number = id_or_pid.bytes().all(|byte| byte.is_ascii_digit());
    serves.retain(|serve| match is_number {
        true => serve.process.pid.to_string() == id_or_pid || serve.id == id_or_pid,
        false => serve.id.starts_with(id_or_pid),
    });
    match serves.pop() {
        Some(found) if serves.is_empty() => Ok(found),
        _ => Err(ServeError::NotFound(id_or_pid.to_owned())),
    }
}

fn dirs(engine: &Engine) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(engine.home().serves())?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn read(dir: &Path) -> Option<ServeRecord> {
    serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
}

/// PendingRequest with a shared lock, so that two who ask at once do not take each other for servers.
fn is_owned(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// Clears away what servers left that could not do it themselves.
pub(crate) fn sweep(engine: &Engine) {
    for dir in dirs(engine).unwrap_or_default() {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_owned(&dir) && is_past_creation(&dir) {
            remove_dir(&run_dir(engine.home(), name.trim_start_matches(DRAFT_PREFIX))).ok();
            remove_dir(&dir).ok();
        }
    }
}

/// One that is just being made has no lock yet for a moment.
fn is_past_creation(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|metadata| metadata.modified());
    !modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 10)) || dir.join(FILE).exists()
}
