//! A snapshot server's record on disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::{IoContext, IoError};
use crate::machine::{ProcessIdentity, remove_dir};
use crate::snapshot::{LoadError, Snapshot, StoreError};
use crate::{Engine, Home};

const FILE: &str = "serve.json";
/// Locked by the server; the kernel releases the lock however the server ends.
const LOCK: &str = "lock";
/// Prefix of the directory of a server that is starting.
const DRAFT_PREFIX: &str = ".new-";
pub(super) const SOCKET: &str = "control.sock";
const FORMAT: u32 = 1;
const ID_DIGITS: usize = 12;

/// A snapshot server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeRecord {
    /// Version of the format.
    pub format: u32,
    /// Its id: 12 hexadecimal digits.
    pub id: String,
    /// The snapshot that it serves.
    pub snapshot: SnapshotId,
    /// The snapshot's tag, or its short id.
    #[serde(rename = "called")]
    pub snapshot_name: String,
    /// The server's process.
    pub process: ProcessIdentity,
    /// Number of clones that it keeps ready.
    pub pool: usize,
    /// Whether its clones run on when it ends, except for those that wait in its pool.
    #[serde(default)]
    pub releases_clones: bool,
    /// The control socket.
    pub socket: PathBuf,
    /// When it was started.
    pub created: jiff::Timestamp,
}

/// Why a snapshot cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The snapshot cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The snapshots cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The snapshot's driver maps memory and cannot use a page server.
    #[error("the {driver} driver maps its clones' memory itself: serve without --pager")]
    NoPager {
        /// The driver's name.
        driver: String,
    },
    /// Clones need their page server, which ends with the server.
    #[error("clones whose memory a page server supplies end with the server: leave out --pager or --release")]
    PagerReleases,
    /// No such server exists.
    #[error("no snapshot server has id or PID {0:?}: `mimeo snapshot ls` lists all servers")]
    NotFound(String),
}

/// The directories of a running server. Dropping it removes them.
#[derive(Debug)]
pub(super) struct ServeClaim {
    pub(super) record: ServeRecord,
    dir: PathBuf,
    run: PathBuf,
    _lock: File,
}

impl ServeClaim {
    pub(super) fn create(
        engine: &Engine,
        snapshot: &Snapshot,
        pool: usize,
        releases_clones: bool,
    ) -> Result<Self, ServeError> {
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
            releases_clones,
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
    /// The directory of its sockets.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run
    }
}

impl Drop for ServeClaim {
    fn drop(&mut self) {
        // The next command's sweep removes what remains.
        remove_dir(&self.run).log_ignored("remove", &self.run);
        remove_dir(&self.dir).log_ignored("remove", &self.dir);
    }
}

fn run_dir(home: &Home, id: &str) -> PathBuf {
    home.run().join("serves").join(id)
}

/// All running servers, the newest last.
///
/// # Errors
/// When they cannot be listed.
pub fn list(engine: &Engine) -> io::Result<Vec<ServeRecord>> {
    let mut serves: Vec<_> =
        dirs(engine)?.iter().filter(|dir| is_owned(dir)).filter_map(|dir| read(dir)).collect();
    serves.sort_by_key(|serve| serve.created);
    Ok(serves)
}

/// Finds a server by its PID, its id or a unique prefix of its id. A word of digits alone is a PID unless
/// it is a full id, since it could otherwise match an id's prefix by coincidence.
///
/// # Errors
/// When no server matches.
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

/// Tests with a shared lock, so that two concurrent tests do not take each other for the server.
fn is_owned(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// Removes what killed servers left behind.
pub(crate) fn sweep(engine: &Engine) {
    for dir in dirs(engine).unwrap_or_default() {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_owned(&dir) && is_past_creation(&dir) {
            let run = run_dir(engine.home(), name.trim_start_matches(DRAFT_PREFIX));
            remove_dir(&run).log_leftover(&run);
            remove_dir(&dir).log_leftover(&dir);
        }
    }
}

/// A server that is starting has no lock for a moment.
fn is_past_creation(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|metadata| metadata.modified());
    !modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 10)) || dir.join(FILE).exists()
}
