//! Where log lines go: standard error, which is a file once a supervisor runs in the background.
//!
//! Writing never fails: logging must not end a machine whose disk is full. A line that cannot be written is
//! dropped, and the next line that can be written says how many bytes were lost.

use std::fs::{self, OpenOptions};
use std::io::{self, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::Timestamp;

/// File size at which the file is renamed to `.1`, which replaces the previous `.1`: what a guest or a client
/// can trigger must not fill the host's disk.
const MAX_BYTES: u64 = 1 << 20;

/// The file that standard error was redirected to.
static FILE: OnceLock<PathBuf> = OnceLock::new();
/// Bytes that were lost since the last line that was written.
static LOST_BYTES: Mutex<u64> = Mutex::new(0);

/// Writes lines to standard error.
#[derive(Debug)]
pub(super) struct Sink;

impl Write for Sink {
    /// Writes one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lost = LOST_BYTES.lock().unwrap_or_else(PoisonError::into_inner);
        match stderr().lock().write_all(&with_notice(line, *lost)) {
            Ok(()) => *lost = 0,
            Err(_) => *lost += line.len() as u64,
        }
        if let Some(path) = FILE.get() {
            rotate(path, MAX_BYTES);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line, after a notice of lines that were lost. The notice begins on a line of its own: a part of the
/// lost text may have been written.
fn with_notice(line: &[u8], lost: u64) -> Vec<u8> {
    let mut text = Vec::new();
    if lost > 0 {
        let now = Timestamp::now();
        text = format!("\n{now:.3} WARN  log: {lost} bytes could not be written and are lost\n").into_bytes();
    }
    text.extend_from_slice(line);
    text
}

/// Redirects standard error to a file, which is rotated from now on. It may be redirected to the same file again.
pub(crate) fn redirect_to(path: PathBuf) -> io::Result<()> {
    reopen(&path)?;
    match FILE.set(path) {
        Err(path) if FILE.get() != Some(&path) => {
            Err(io::Error::other("standard error is redirected to another file"))
        }
        _ => Ok(()),
    }
}

fn reopen(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(rustix::stdio::dup2_stderr(&file)?)
}

/// Continues in a new file once this one is too long. If that fails, the next line tries again.
fn rotate(path: &Path, max: u64) {
    let is_long =
        rustix::fs::fstat(stderr()).is_ok_and(|file| u64::try_from(file.st_size).unwrap_or(0) > max);
    if is_long {
        fs::rename(path, path.with_extension("log.1")).and_then(|()| reopen(path)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_after_a_loss_says_how_much_was_lost() {
        assert_eq!(with_notice(b"fine\n", 0), b"fine\n");
        let text = String::from_utf8(with_notice(b"fine\n", 12)).expect("text");
        assert!(text.starts_with('\n') && text.ends_with("\nfine\n"), "{text:?}");
        assert!(text.contains("12 bytes could not be written"), "{text:?}");
    }
}
