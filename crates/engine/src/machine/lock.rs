//! The lock that a machine's supervisor holds while it lives. The kernel releases it however the supervisor ends.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file in a machine's directory that its supervisor keeps locked.
const LOCK: &str = "lock";
/// The file that a command keeps locked, too, while it uses the disk of a machine without a supervisor. It holds the
/// command's PID.
const FILES_LOCK: &str = "files-lock";
/// How long another process may hold the lock without being the machine's supervisor: a command that looks whether
/// there is one, or that sweeps.
const BRIEF_HOLD: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A machine's lock, held by this process until the last of its handles is dropped.
#[derive(Debug, Clone)]
pub(crate) struct MachineLock {
    _file: Arc<File>,
    _files: Option<Arc<File>>,
}

impl MachineLock {
    /// Locks the directory of a new machine.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        // Blocks: another process may just be checking whether the directory has an owner.
        Ok(Self::new(lock_dir(dir, FlockOperation::LockExclusive)?))
    }

    /// Locks an existing machine; `None` if it has a supervisor, or no longer exists.
    pub(super) fn acquire(dir: &Path) -> io::Result<Option<Self>> {
        let end = Instant::now() + BRIEF_HOLD;
        loop {
            match lock_dir(dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(file) => return Ok(Some(Self::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if Errno::from_io_error(&error) != Some(Errno::WOULDBLOCK) => return Err(error),
                Err(_) if Instant::now() > end => return Ok(None),
                Err(_) => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Locks an existing machine as [`MachineLock::acquire`] does, and lets others know that its disk is in use.
    pub(super) fn acquire_for_files(dir: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = Self::acquire(dir)? else { return Ok(None) };
        // Others wait longer where they can see that it is in use: a full disk must not prevent the use.
        let warn = |error: &io::Error| {
            tracing::warn!(component = "registry", %error, "cannot mark the machine's disk as in use");
        };
        let files = lock_files(dir).inspect_err(warn).ok();
        Ok(Some(Self { _files: files.map(Arc::new), ..lock }))
    }

    fn new(file: File) -> Self {
        Self { _file: Arc::new(file), _files: None }
    }
}

fn lock_files(dir: &Path) -> io::Result<File> {
    let mut file = File::options().write(true).create(true).truncate(false).open(dir.join(FILES_LOCK))?;
    flock(&file, FlockOperation::LockExclusive)?;
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Returns the PID of the command that uses the machine's disk, if one does.
pub(super) fn user_of_files(dir: &Path) -> Option<u32> {
    let file = File::open(dir.join(FILES_LOCK)).ok()?;
    flock(&file, FlockOperation::NonBlockingLockShared).err()?;
    // It may not be written yet.
    Some(io::read_to_string(file).ok()?.parse().unwrap_or_default())
}

fn lock_dir(dir: &Path, operation: FlockOperation) -> io::Result<File> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::create(&path)?,
        // A file on a read-only filesystem can be locked as well.
        opened => opened?,
    };
    flock(&file, operation)?;
    Ok(file)
}

/// Returns whether a supervisor runs. Tries a shared lock, so that two processes that check at the
/// same time do not mistake each other for supervisors.
pub(super) fn is_supervised(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// Locks a machine whose supervisor has ended.
pub(crate) fn lock_orphan(dir: &Path) -> Option<File> {
    lock_dir(dir, FlockOperation::NonBlockingLockExclusive).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_its_last_handle_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = MachineLock::create(dir.path()).expect("locked");
        let handle = lock.clone();
        drop(lock);
        assert!(is_supervised(dir.path()));
        assert!(MachineLock::acquire(dir.path()).expect("tried").is_none());
        drop(handle);
        assert!(!is_supervised(dir.path()));
        assert!(MachineLock::acquire(dir.path()).expect("tried").is_some());
        assert!(MachineLock::acquire(&dir.path().join("none")).expect("tried").is_none());
    }

    #[test]
    fn others_see_who_uses_the_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(MachineLock::create(dir.path()).expect("locked"));
        assert_eq!(user_of_files(dir.path()), None);
        let lock = MachineLock::acquire_for_files(dir.path()).expect("tried");
        assert_eq!(user_of_files(dir.path()), Some(std::process::id()));
        assert!(MachineLock::acquire_for_files(dir.path()).expect("tried").is_none());
        drop(lock);
        assert_eq!(user_of_files(dir.path()), None);
        // A supervisor is no such command.
        let lock = MachineLock::acquire(dir.path()).expect("tried");
        assert!(lock.is_some() && user_of_files(dir.path()).is_none());
    }

    #[test]
    fn a_lock_is_acquired_while_others_look_for_a_supervisor() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(MachineLock::create(dir.path()).expect("locked"));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..2000).filter(|_| is_supervised(dir.path())).count());
            }
            for _ in 0..200 {
                assert!(MachineLock::acquire(dir.path()).expect("tried").is_some());
            }
        });
    }
}
