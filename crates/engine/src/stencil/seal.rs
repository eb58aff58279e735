//! Whether a stencil's files are what was made. Nobody writes to them once they are there, so that one which was written
//! to, or is missing, is known by its number, length and time of change.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SEAL: &str = "seal.json";

/// What each file was like.
type Looks = BTreeMap<String, (u64, u64, i64, i64)>;

/// Notes all files of a directory.
pub(super) fn close(dir: &Path) -> io::Result<()> {
    let looks = looks(dir)?;
    fs::write(dir.join(SEAL), serde_json::to_vec(&looks)?)
}

/// Has the files count as others from now on.
pub(super) fn open(dir: &Path) {
    // Where it cannot be removed, the next finds what this one found.
    fs::remove_file(dir.join(SEAL)).ok();
}

/// Whether all are there, and as they were.
pub(super) fn is_whole(dir: &Path) -> bool {
    let noted = fs::read(dir.join(SEAL)).ok().and_then(|text| serde_json::from_slice::<Looks>(&text).ok());
    noted.is_some_and(|noted| looks(dir).is_ok_and(|now| now == noted))
}

fn looks(dir: &Path) -> io::Result<Looks> {
    let mut looks = Looks::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != SEAL {
            let found = entry.metadata()?;
            looks.insert(name, (found.ino(), found.len(), found.mtime(), found.mtime_nsec()));
        }
    }
    Ok(looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_to_is_not_whole() {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("memory");
        fs::write(&path, "1234").expect("written");
        assert!(!is_whole(dir.path()));
        close(dir.path()).expect("closed");
        assert!(is_whole(dir.path()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "1235").expect("written");
        assert!(!is_whole(dir.path()));
        close(dir.path()).expect("closed");
        fs::remove_file(&path).expect("removed");
        assert!(!is_whole(dir.path()));
    }
}
