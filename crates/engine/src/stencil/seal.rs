//! Detects whether a stencil's files are unchanged. No process writes to them once they are complete, so a modified or
//! missing file is recognised by its inode number, length and modification time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::ignored::LogIgnored;

const SEAL_FILE: &str = "seal.json";

/// Inode number, length and modification time (seconds, nanoseconds) of each file.
type FileStamps = BTreeMap<String, (u64, u64, i64, i64)>;

/// Records the stamps of all files in the directory.
pub(super) fn seal(dir: &Path) -> io::Result<()> {
    let stamps = read_stamps(dir)?;
    fs::write(dir.join(SEAL_FILE), serde_json::to_vec(&stamps)?)
}

/// Removes the seal: the files no longer count as intact, and the next machine rebuilds them.
pub(super) fn invalidate(dir: &Path) {
    let seal = dir.join(SEAL_FILE);
    // If it cannot be removed, the next restore fails in the same way and tries again.
    fs::remove_file(&seal).log_ignored("remove the seal", &seal);
}

/// Whether all files exist and are unchanged since they were sealed.
pub(super) fn is_intact(dir: &Path) -> bool {
    let sealed =
        fs::read(dir.join(SEAL_FILE)).ok().and_then(|text| serde_json::from_slice::<FileStamps>(&text).ok());
    sealed.is_some_and(|sealed| read_stamps(dir).is_ok_and(|now| now == sealed))
}

fn read_stamps(dir: &Path) -> io::Result<FileStamps> {
    let mut stamps = FileStamps::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != SEAL_FILE {
            let metadata = entry.metadata()?;
            stamps.insert(name, (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_file_breaks_the_seal() {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("memory");
        fs::write(&path, "1234").expect("written");
        assert!(!is_intact(dir.path()));
        seal(dir.path()).expect("sealed");
        assert!(is_intact(dir.path()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "1235").expect("written");
        assert!(!is_intact(dir.path()));
        seal(dir.path()).expect("sealed");
        fs::remove_file(&path).expect("removed");
        assert!(!is_intact(dir.path()));
    }
}
