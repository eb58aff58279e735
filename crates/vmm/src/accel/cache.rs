//! Records which kinds of guest have booted on KVM, until something that this depends on changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::choose::Unusable;

const DEVICE: &str = "/dev/kvm";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Kinds of guest to remember: each kernel, agent and VMM adds one.
const MAX_GUESTS: usize = 32;

/// The host state that a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HostState {
    boot_id: String,
    /// Device and inode numbers of /dev/kvm, and its change time (owner or mode) in seconds and nanoseconds.
    device: (u64, u64, i64, i64),
    user: u32,
    groups: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VerdictFile {
    #[serde(rename = "circumstances")]
    host_state: HostState,
    guests: BTreeMap<String, Outcome>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Booted,
    Failed(Unusable),
}

/// Failures that could not be written, by run directory and kind of guest.
type Unwritten = BTreeMap<(PathBuf, String), Unusable>;

/// A failed guest is started again without KVM. This process must not try KVM for it again, even if the file
/// could not be written.
static UNWRITTEN: Mutex<Unwritten> = Mutex::new(BTreeMap::new());

fn unwritten() -> MutexGuard<'static, Unwritten> {
    // A map of plain values is consistent after any panic.
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recorded outcome for this kind of guest. None if none was tried.
pub(super) fn read_verdict(run_dir: &Path, guest: &str) -> Option<Result<(), Unusable>> {
    let written = read_guests(run_dir).and_then(|mut guests| guests.remove(guest));
    written.map(Outcome::into_result).or_else(|| {
        let unwritten = unwritten();
        unwritten.get(&(run_dir.to_owned(), guest.to_owned())).cloned().map(Err)
    })
}

/// The recorded outcomes for all kinds of guests.
pub(super) fn read_all_verdicts(run_dir: &Path) -> Vec<Result<(), Unusable>> {
    read_guests(run_dir).unwrap_or_default().into_values().map(Outcome::into_result).collect()
}

fn read_guests(run_dir: &Path) -> Option<BTreeMap<String, Outcome>> {
    let current = HostState::current().ok()?;
    let contents =
        read_file(&verdict_file(run_dir, current.user)).filter(|contents| contents.host_state == current)?;
    Some(contents.guests)
}

impl Outcome {
    fn into_result(self) -> Result<(), Unusable> {
        match self {
            Self::Booted => Ok(()),
            Self::Failed(reason) => Err(reason),
        }
    }
}

/// Records whether a guest of this kind booted on KVM. If that cannot be written, only this process remembers
/// a failure, and the next process tries KVM again: this costs time, but is never wrong.
pub fn record(run_dir: &Path, guest: &str, outcome: Result<(), Unusable>) {
    let outcome = outcome.map_or_else(Outcome::Failed, |()| Outcome::Booted);
    if let Err(error) = write_outcome(run_dir, guest, outcome.clone()) {
        tracing::debug!(dir = %run_dir.display(), %error, "cannot record the outcome of a guest on KVM");
        if let Outcome::Failed(reason) = outcome {
            unwritten().insert((run_dir.to_owned(), guest.to_owned()), reason);
        }
    }
}

fn write_outcome(run_dir: &Path, guest: &str, outcome: Outcome) -> io::Result<()> {
    let host_state = HostState::current()?;
    let path = verdict_file(run_dir, host_state.user);
    let mut guests = read_guests(run_dir).filter(|guests| guests.len() < MAX_GUESTS).unwrap_or_default();
    guests.insert(guest.to_owned(), outcome);
    write_file(&path, &VerdictFile { host_state, guests })
}

fn verdict_file(run_dir: &Path, user: u32) -> PathBuf {
    run_dir.join(format!("kvm-{user}.json"))
}

impl HostState {
    fn current() -> io::Result<Self> {
        let device = fs::metadata(DEVICE)?;
        Ok(Self {
            boot_id: boot_id()?,
            device: (device.dev(), device.ino(), device.ctime(), device.ctime_nsec()),
            user: rustix::process::geteuid().as_raw(),
            groups: groups()?,
        })
    }
}

pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn groups() -> io::Result<Vec<u32>> {
    let mut groups: Vec<_> = rustix::process::getgroups()?.iter().map(|group| group.as_raw()).collect();
    groups.push(rustix::process::getegid().as_raw());
    groups.sort_unstable();
    Ok(groups)
}

fn read_file(path: &Path) -> Option<VerdictFile> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_file(path: &Path, contents: &VerdictFile) -> io::Result<()> {
    replace_file(path, &serde_json::to_vec(contents)?)
}

/// Replaces the file by rename: another process may read it at any time.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    io::Write::write_all(&mut new, bytes)?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Unusable {
        Unusable::GuestFailed { how: "no answer within 30 s".to_owned() }
    }

    fn has_kvm_device() -> bool {
        Path::new(DEVICE).exists()
    }

    #[test]
    fn outcomes_are_recorded_for_each_kind_of_guest() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), "a", Ok(()));
        record(dir.path(), "b", Err(failure()));
        if has_kvm_device() {
            assert_eq!(read_verdict(dir.path(), "a"), Some(Ok(())));
            assert_eq!(read_verdict(dir.path(), "b"), Some(Err(failure())));
        }
        assert_eq!(read_verdict(dir.path(), "c"), None);
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_host_state_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        if !has_kvm_device() {
            return;
        }
        record(dir.path(), "a", Ok(()));
        let path = verdict_file(dir.path(), rustix::process::geteuid().as_raw());
        let mut other = read_file(&path).unwrap();
        other.host_state.boot_id.push('x');
        write_file(&path, &other).unwrap();
        assert_eq!(read_verdict(dir.path(), "a"), None);
        fs::write(&path, b"{").unwrap();
        assert_eq!(read_verdict(dir.path(), "a"), None);
        record(dir.path(), "a", Ok(()));
        assert_eq!(read_verdict(dir.path(), "a"), Some(Ok(())));
    }

    #[test]
    fn an_unwritten_failure_is_remembered_by_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        record(&blocked, "a", Err(failure()));
        assert_eq!(read_verdict(&blocked, "a"), Some(Err(failure())));
        assert_eq!(read_verdict(&blocked, "b"), None);
    }

    #[test]
    fn the_number_of_recorded_guests_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..2 * MAX_GUESTS {
            record(dir.path(), &number.to_string(), Ok(()));
        }
        if has_kvm_device() {
            let path = verdict_file(dir.path(), rustix::process::geteuid().as_raw());
            assert!(read_file(&path).unwrap().guests.len() <= MAX_GUESTS);
        }
    }
}
