//! Writes files atomically.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ignored::LogIgnored as _;

/// Writes `value` as JSON, like [`write`].
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// How the names of temporary files start.
const TEMPORARY: &str = ".new-";

/// Writes a file atomically: temporary file, fsync, rename, fsync of the directory. The temporary file is locked while
/// its writer lives, see [`remove_abandoned`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(dir)?;
    file.as_file().lock()?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

/// Removes `path` if it is the temporary file of a writer that has ended. Returns whether it is a temporary file.
pub(crate) fn remove_abandoned(path: &Path) -> bool {
    let is_temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
    if is_temporary && File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        fs::remove_file(path).log_leftover(path);
    }
    is_temporary
}

/// Renames a file that cannot be parsed to a name that is never read. Returns the new path.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().as_millisecond();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".corrupt-{stamp}"));
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_temporary_file_of_an_ended_writer_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in [".new-live", ".new-dead", "file"] {
            fs::write(path(name), name).expect("written");
        }
        let live = File::open(path(".new-live")).expect("opened");
        live.lock().expect("locked");
        assert!(remove_abandoned(&path(".new-live")) && path(".new-live").exists());
        assert!(remove_abandoned(&path(".new-dead")) && !path(".new-dead").exists());
        assert!(!remove_abandoned(&path("file")) && path("file").exists());
        drop(live);
        assert!(remove_abandoned(&path(".new-live")) && !path(".new-live").exists());
    }

    #[test]
    fn a_file_is_written_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("file"), b"one").expect("written");
        write(&dir.path().join("file"), b"two").expect("written again");
        assert_eq!(fs::read(dir.path().join("file")).expect("read"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
