//! Whether a snapshot's files are what was saved.
//!
//! Reading hundreds of MiB has no place in the start of a copy. So a file that
//! was found well is remembered by its number, length and time of change, for
//! as long as the host is up, and read again only when one of them differs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mimeo_pager::PagerError;

use super::{FileEntry, LoadError, Snapshot, Snapshots};
use crate::durable;

/// What a file was like when it was found well.
type Seen = BTreeMap<String, String>;

/// Refuses a snapshot of which a file is not what was saved.
pub(crate) fn verify(store: &Snapshots, snapshot: &Snapshot) -> Result<(), LoadError> {
    let notes = notes(store, snapshot);
    let seen: Seen =
        fs::read(&notes).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut now = Seen::new();
    for file in &snapshot.manifest.files {
        let path = snapshot.dir.join(&file.name);
        let look = look(&path)?;
        if seen.get(&file.name) != Some(&look) {
            check(&path, file)?;
        }
        now.insert(file.name.clone(), look);
    }
    if now != seen {
        note(&notes, &now);
    }
    Ok(())
}

/// Remembers that the files of a snapshot that was just made are well.
pub(crate) fn trust(store: &Snapshots, snapshot: &Snapshot) {
    let seen: Option<Seen> = snapshot
        .manifest
        .files
        .iter()
        .map(|file| Some((file.name.clone(), look(&snapshot.dir.join(&file.name)).ok()?)))
        .collect();
    if let Some(seen) = seen {
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
