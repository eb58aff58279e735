//! The data of a time zone, from the host.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where the host keeps the data of time zones.
const DIRECTORY: &str = "/usr/share/zoneinfo";
/// The host's own time zone.
const LOCAL: &str = "/etc/localtime";
/// How the data begin.
const MAGIC: &[u8] = b"TZif";
/// Largest file; the longest in use has about 4 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// The time zone cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the time zone {name:?}: {reason}: use a name below {DIRECTORY}, such as Asia/Tokyo, or local"
)]
pub struct TimeZoneError {
    name: String,
    reason: String,
}

/// The data of a time zone: of a name below /usr/share/zoneinfo, or of `local`, the host's own.
///
/// # Errors
/// If this host has no data of it.
pub fn data(name: &str) -> Result<Vec<u8>, TimeZoneError> {
    let failed = |reason: String| TimeZoneError { name: name.to_owned(), reason };
    let path = path(name).ok_or_else(|| failed("it is not a name".to_owned()))?;
    let data = read(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    if data.starts_with(MAGIC) { Ok(data) } else { Err(failed("it has no time zone data".to_owned())) }
}

fn path(name: &str) -> Option<PathBuf> {
    if name == "local" {
        return Some(LOCAL.into());
    }
    let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && !name.is_empty()).then(|| Path::new(DIRECTORY).join(name))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_time_zones_are_read() {
        assert!(data("Etc/UTC").is_ok_and(|data| data.starts_with(MAGIC)));
        for bad in
            ["", "Nowhere/Land", "../../../etc/passwd", "/etc/localtime", "Etc", "tzdata.zi", "zone.tab"]
        {
            let error = data(bad).expect_err("no time zone").to_string();
            assert!(error.starts_with("cannot use the time zone"), "{error}");
        }
    }
}
