//! Verifies that a snapshot's files are unchanged since they were saved.
//!
//! Reading hundreds of MiB would delay each start of a clone. So the inode number, size and modification
//! time of a verified file are recorded as its stamp until the host reboots, and the file is read again
//! only when its stamp has changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mimeo_pager::PagerError;

use super::{FileEntry, LoadError, Snapshot, Snapshots};
use crate::durable;
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::boot_id;

/// Digests that were computed later, for files that were saved without.
const DIGESTS_FILE: &str = "assured.json";
/// Key of the boot id in the recorded stamps; no file has this name.
const BOOT_KEY: &str = "/boot";

/// File names and the stamps of these files when they were verified.
type Stamps = BTreeMap<String, String>;

/// Refuses a snapshot if one of its files differs from what was saved.
pub(crate) fn verify(store: &Snapshots, snapshot: &Snapshot) -> Result<(), LoadError> {
    let path = stamps_file(store, snapshot);
    let recorded: Stamps =
        fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut current = Stamps::from([boot_entry()]);
    let unchanged = |file: &FileEntry, stamp: &String| {
        recorded.get(BOOT_KEY) == current.get(BOOT_KEY) && recorded.get(&file.name) == Some(stamp)
    };
    let mut stamps = Stamps::new();
    for file in &files_with_digests(snapshot)? {
        let path = snapshot.dir.join(&file.name);
        let stamp = file_stamp(&path)?;
        if !unchanged(file, &stamp) {
            check_file(&path, file)?;
        }
        stamps.insert(file.name.clone(), stamp);
    }
    current.extend(stamps);
    if current != recorded {
        write_stamps(&path, &current);
    }
    Ok(())
}

/// Makes a fork's snapshot durable before a lasting snapshot is built on it: its files have neither been
/// synced nor hashed.
pub(crate) fn make_durable(store: &Snapshots, id: &SnapshotId) -> Result<(), LoadError> {
    let snapshot = store.read(id)?;
    let files = files_with_digests(&snapshot)?;
    if files.iter().any(|file| file.blake3.is_none()) {
        let files = files.into_iter().map(|file| digest(&snapshot, file)).collect::<Result<Vec<_>, _>>()?;
        let path = snapshot.dir.join(DIGESTS_FILE);
        durable::write_json(&path, &files).at("write", &path)?;
    }
    snapshot.manifest.parent.map_or(Ok(()), |parent| make_durable(store, &parent))
}

fn digest(snapshot: &Snapshot, file: FileEntry) -> Result<FileEntry, LoadError> {
    let path = snapshot.dir.join(&file.name);
    let synced = File::open(&path).and_then(|file| file.sync_all());
    synced.at("sync", &path)?;
    let blake3 = mimeo_pager::digest(&path, None).map_err(PagerError::from)?;
    Ok(FileEntry { blake3: Some(blake3), ..file })
}

/// The snapshot's files, with digests that were computed later. Files without digests are trusted only
/// until the host reboots.
fn files_with_digests(snapshot: &Snapshot) -> Result<Vec<FileEntry>, LoadError> {
    let files = &snapshot.manifest.files;
    if files.iter().all(|file| file.blake3.is_some()) {
        return Ok(files.clone());
    }
    let path = snapshot.dir.join(DIGESTS_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| LoadError::Damaged { path }),
        Err(_) if snapshot.manifest.boot_id == boot_id() => Ok(files.clone()),
        Err(_) => Err(LoadError::Unverified),
    }
}

fn boot_entry() -> (String, String) {
    (BOOT_KEY.to_owned(), boot_id())
}

/// Records the files of a snapshot that was just made as verified.
pub(crate) fn record_verified(store: &Snapshots, snapshot: &Snapshot) {
    let stamps: Option<Stamps> = snapshot
        .manifest
        .files
        .iter()
        .map(|file| Some((file.name.clone(), file_stamp(&snapshot.dir.join(&file.name)).ok()?)))
        .collect();
    if let Some(mut stamps) = stamps {
        stamps.extend([boot_entry()]);
        write_stamps(&stamps_file(store, snapshot), &stamps);
    }
}

fn check_file(path: &Path, file: &FileEntry) -> Result<(), LoadError> {
    let damaged = || LoadError::Damaged { path: path.to_owned() };
    let length = fs::metadata(path).at("examine", path)?.len();
    if length != file.bytes {
        return Err(damaged());
    }
    match &file.blake3 {
        Some(expected) if mimeo_pager::digest(path, None).map_err(PagerError::from)? != *expected => {
            Err(damaged())
        }
        _ => Ok(()),
    }
}

fn file_stamp(path: &Path) -> Result<String, LoadError> {
    let file = fs::metadata(path).at("examine", path)?;
    Ok(format!("{} {} {}.{:09}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Removes the stamps of removed snapshots, and what writers that ended have left.
pub(super) fn sweep(store: &Snapshots) {
    for entry in fs::read_dir(stamps_dir(store)).into_iter().flatten().flatten() {
        if !durable::remove_abandoned(&entry.path())
            && !store.home().snapshots().join(entry.file_name()).exists()
        {
            fs::remove_file(entry.path()).log_leftover(entry.path());
        }
    }
}

fn stamps_dir(store: &Snapshots) -> PathBuf {
    store.home().run().join("verified")
}

fn stamps_file(store: &Snapshots, snapshot: &Snapshot) -> PathBuf {
    stamps_dir(store).join(snapshot.manifest.id.short())
}

/// Records stamps. If that fails, the next start verifies the files again.
fn write_stamps(path: &Path, recorded: &Stamps) {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).log_ignored("create", dir);
    }
    durable::write_json(path, recorded).log_ignored("write", path);
}
