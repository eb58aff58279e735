//! The files of a log: the current one and those that were rotated.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{FILE, LogConfig};

/// The path of the file that was rotated `age` rotations ago; 0 is the current file.
pub(super) fn path(dir: &Path, age: u32) -> PathBuf {
    if age == 0 { dir.join(FILE) } else { dir.join(format!("{FILE}.{age}")) }
}

/// Opens the files of the log of the machine in `dir`, the oldest first, each with its inode number. The
/// machine may write and rotate them meanwhile.
///
/// # Errors
/// If a file exists that cannot be opened.
pub fn open_all(dir: &Path, config: &LogConfig) -> io::Result<Vec<(u64, File)>> {
    let mut files: Vec<(u64, File)> = Vec::new();
    // From the newest to the oldest: a rotation makes a file older, so none is missed. One may be found twice.
    for age in 0..config.max_files {
        let file = match File::open(path(dir, age)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let inode = file.metadata()?.ino();
        if files.iter().all(|(known, _)| *known != inode) {
            files.push((inode, file));
        }
    }
    files.reverse();
    Ok(files)
}

/// Makes each file one rotation older, and removes the oldest.
pub(super) fn rotate(dir: &Path, config: &LogConfig) -> io::Result<()> {
    for age in (1..config.max_files).rev() {
        match fs::rename(path(dir, age - 1), path(dir, age)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::remove_file(path(dir, 0)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
