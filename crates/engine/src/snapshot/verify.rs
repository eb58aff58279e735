//! Whether a snapshot's files are what was saved.
//!
//! Reading hundreds of MiB has no place in the start of a copy. So a file that
//! was found well is remembered by its number, length and time of change, for
//! as long as the host is up, and read again only when one of them differs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mimeo_pager::PagerError;

use super::{FileEntry, LoadError, Snapshot, Snapshots};
use crate::durable;
use crate::id::SnapshotId;
use crate::machine::boot_id;

/// The digests of files that were not to be kept at first.
const ASSURED: &str = "assured.json";
/// No file's name: the boot of the host that a note was taken in.
const BOOT: &str = "/boot";

/// What a file was like when it was found well.
type Seen = BTreeMap<String, String>;

/// Refuses a snapshot of which a file is not what was saved.
pub(crate) fn verify(store: &Snapshots, snapshot: &Snapshot) -> Result<(), LoadError> {
    let notes = notes(store, snapshot);
    let seen: Seen =
        fs::read(&notes).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut now = Seen::from([boot()]);
    let unchanged = |file: &FileEntry, look: &String| {
        seen.get(BOOT) == now.get(BOOT) && seen.get(&file.name) == Some(look)
    };
    let mut found = Seen::new();
    for file in &assured(snapshot)? {
        let path = snapshot.dir.join(&file.name);
        let look = look(&path)?;
        if !unchanged(file, &look) {
            check(&path, file)?;
        }
        found.insert(file.name.clone(), look);
    }
    now.extend(found);
    if now != seen {
        note(&notes, &now);
    }
    Ok(())
}

/// Makes sure of a snapshot that something which lasts is built on: a fork's
/// files are neither on the disk for certain nor have they digests.
pub(crate) fn assure(store: &Snapshots, id: &SnapshotId) -> Result<(), LoadError> {
    let snapshot = store.read(id)?;
    let files = assured(&snapshot)?;
    if files.iter().any(|file| file.blake3.is_none()) {
        let files = files.into_iter().map(|file| digest(&snapshot, file)).collect::<Result<Vec<_>, _>>()?;
        let path = snapshot.dir.join(ASSURED);
        durable::write_json(&path, &files).map_err(|source| LoadError::Read { path, source })?;
    }
    snapshot.manifest.parent.map_or(Ok(()), |parent| assure(store, &parent))
}

fn digest(snapshot: &Snapshot, file: FileEntry) -> Result<FileEntry, LoadError> {
    let path = snapshot.dir.join(&file.name);
    let synced = File::open(&path).and_then(|file| file.sync_all());
    synced.map_err(|source| LoadError::Read { path: path.clone(), source })?;
    let blake3 = mimeo_pager::digest(&path, None).map_err(PagerError::from)?;
    Ok(FileEntry { blake3: Some(blake3), ..file })
}

/// The snapshot's files, with the digests that they were given later. Without
/// any they are believed only while the host that made them is up.
fn assured(snapshot: &Snapshot) -> Result<Vec<FileEntry>, LoadError> {
    let files = &snapshot.manifest.files;
    if files.iter().all(|file| file.blake3.is_some()) {
        return Ok(files.clone());
    }
    let path = snapshot.dir.join(ASSURED);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| LoadError::Damaged { path }),
        Err(_) if snapshot.manifest.boot_id == boot_id() => Ok(files.clone()),
        Err(_) => Err(LoadError::Passed),
    }
}

fn boot() -> (String, String) {
    (BOOT.to_owned(), boot_id())
}

/// Remembers that the files of a snapshot that was just made are well.
pub(crate) fn trust(store: &Snapshots, snapshot: &Snapshot) {
    let seen: Option<Seen> = snapshot
        .manifest
        .files
        .iter()
        .map(|file| Some((file.name.clone(), look(&snapshot.dir.join(&file.name)).ok()?)))
        .collect();
    if let Some(mut seen) = seen {
        seen.extend([boot()]);
        note(&notes(store, snapshot), &seen);
    }
}

fn check(path: &Path, file: &FileEntry) -> Result<(), LoadError> {
    let damaged = || LoadError::Damaged { path: path.to_owned() };
    let length =
        fs::metadata(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?.len();
    if length != file.bytes {
        return Err(damaged());
    }
    match &file.blake3 {
        Some(wanted) if mimeo_pager::digest(path, None).map_err(PagerError::from)? != *wanted => {
            Err(damaged())
        }
        _ => Ok(()),
    }
}

fn look(path: &Path) -> Result<String, LoadError> {
    let file = fs::metadata(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    Ok(format!("{} {} {}.{:09}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Forgets what was noted of snapshots that are gone.
pub(super) fn sweep(store: &Snapshots) {
    for note in fs::read_dir(all_notes(store)).into_iter().flatten().flatten() {
        let unfinished = note.file_name().to_string_lossy().starts_with('.');
        if !unfinished && !store.home().snapshots().join(note.file_name()).exists() {
            fs::remove_file(note.path()).ok();
        }
    }
}

fn all_notes(store: &Snapshots) -> PathBuf {
    store.home().run().join("verified")
}

fn notes(store: &Snapshots, snapshot: &Snapshot) -> PathBuf {
    all_notes(store).join(snapshot.manifest.id.short())
}

/// Notes that cannot be written cost the next copy a check.
fn note(path: &Path, seen: &Seen) {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).ok();
    }
    durable::write_json(path, seen).ok();
}
