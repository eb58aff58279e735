//! Spare records: the records of machines whose own file cannot be written, because its disk is full or
//! read-only. They are kept in the run directory, which usually is another filesystem, until the record can
//! be written to its place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::FILE;
use super::{Record, RecordError};
use crate::durable;
use crate::home::Home;
use crate::id::MachineId;
use crate::ignored::LogIgnored;

/// Returns the path of a machine's spare record.
pub(super) fn path(home: &Home, id: &MachineId) -> PathBuf {
    dir(home).join(format!("{}.json", id.short()))
}

/// Returns the directory of all spare records.
pub(super) fn dir(home: &Home) -> PathBuf {
    home.run().join("records")
}

/// Writes a record to its place, or else to its spare place; an error if it is not in its place.
pub(super) fn store_or_spare(record: &Record, dir: &Path, spare: &Path) -> Result<(), RecordError> {
    match record.store(dir) {
        Ok(()) => {
            remove(spare);
            Ok(())
        }
        Err(error) => {
            store(spare, record).log_ignored("write the spare record", spare);
            Err(error)
        }
    }
}

/// Writes a spare record.
fn store(path: &Path, record: &Record) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    durable::write_json(path, record)
}

/// Removes a spare record, if there is one.
pub(super) fn remove(path: &Path) {
    fs::remove_file(path).log_ignored("remove the spare record", path);
}

/// Reads a machine's spare record, if there is one that is not older than the record in `dir`.
pub(super) fn load(path: &Path, dir: &Path) -> Option<Record> {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    // With the same time it is the newer one: it is removed when the other is written.
    if modified(path)? < modified(&dir.join(FILE))? {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
