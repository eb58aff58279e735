//! Reads a log file that is still being written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use mimeo_engine::log::{self, LogConfig, LogLine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::error::CliError;

/// Bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// The longest wait before the caller checks the machine's state again: a
/// machine may exit without writing to its log.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The log of a machine, which may be rotated while it is read.
#[derive(Debug)]
pub(super) struct LogFile {
    dir: PathBuf,
    config: LogConfig,
    /// The file that is being read, and its inode number.
    file: Option<(u64, File)>,
    /// The start of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// The inotify watch of the directory; `None` if inotify has no watch left.
    changes: Option<OwnedFd>,
}

impl LogFile {
    /// The log of the machine in `dir`.
    pub(super) fn new(dir: PathBuf, config: LogConfig) -> Self {
        Self { dir, config, file: None, partial: Vec::new(), changes: None }
    }

    /// Reads all complete lines. A machine that has written nothing has no log file yet.
    pub(super) fn read(
        &mut self,
        mut on_line: impl FnMut(LogLine) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.read_current(&mut on_line)?;
        while let Some(next) = self.next_file().map_err(|source| self.error(source))? {
            // A file that was rotated is complete, but lines may have been added just before.
            self.read_current(&mut on_line)?;
            self.file = Some(next);
            self.partial.clear();
            self.read_current(&mut on_line)?;
        }
        Ok(())
    }

    fn read_current(
        &mut self,
        on_line: &mut impl FnMut(LogLine) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let Some((_, file)) = &mut self.file else { return Ok(()) };
            let count = file.read(&mut chunk).map_err(|source| self.error(source))?;
            if count == 0 {
                return Ok(());
            }
            self.partial.extend_from_slice(&chunk[..count]);
            let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut lines = self.partial[..complete].split(|byte| *byte == b'\n').filter_map(LogLine::parse);
            lines.try_for_each(&mut *on_line)?;
            self.partial.drain(..complete);
        }
    }

    /// The file after the one that is being read; the oldest if that was removed, or none was read yet.
    fn next_file(&self) -> io::Result<Option<(u64, File)>> {
        let mut files = log::open_all(&self.dir, &self.config)?.into_iter();
        let Some((inode, _)) = self.file else { return Ok(files.next()) };
        let files: Vec<_> = files.collect();
        let newer = files.iter().position(|(other, _)| *other == inode).map_or(0, |at| at + 1);
        Ok(files.into_iter().nth(newer))
    }

    fn error(&self, source: io::Error) -> CliError {
        CliError::io(format!("read the log in {}", self.dir.display()), source)
    }

    /// Waits until there may be new lines.
    pub(super) fn wait(&mut self) {
        if self.changes.is_none() {
            self.changes = self.watch().ok();
        }
        let Some(changes) = &self.changes else { return std::thread::sleep(POLL_INTERVAL / 4) };
        let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.as_nanos() as i64 };
        // An error (EINTR) only shortens the wait; the caller reads the file anyway.
        poll(&mut [PollFd::new(changes, PollFlags::IN)], Some(&timeout)).ok();
        let mut events = [0; 4096];
        while let Ok(1..) = rustix::io::read(changes, &mut events) {}
    }

    fn watch(&self) -> rustix::io::Result<OwnedFd> {
        let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        add_watch(&changes, &self.dir, WatchFlags::MODIFY | WatchFlags::CREATE)?;
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn texts(file: &mut LogFile) -> Vec<String> {
        let mut texts = Vec::new();
        file.read(|line| {
            texts.push(String::from_utf8(line.text).expect("text"));
            Ok(())
        })
        .expect("read");
        texts
    }

    fn line(text: &str) -> String {
        format!("2026-01-31T12:00:00.000000000Z stdout F {text}\n")
    }

    #[test]
    fn reading_survives_rotations() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |age: &str| dir.path().join(format!("container.log{age}"));
        let rotate = |from: &str, to: &str| fs::rename(path(from), path(to)).expect("renamed");
        let write = |text: &str| fs::write(path(""), line(text)).expect("written");
        let config = LogConfig { max_files: 3, ..LogConfig::default() };
        let mut file = LogFile::new(dir.path().to_owned(), config);
        assert!(texts(&mut file).is_empty());
        write("a");
        rotate("", ".1");
        write("b");
        assert_eq!(texts(&mut file), ["a", "b"]);
        // A line is added just before the file is rotated twice.
        fs::write(path(""), [line("b"), line("c")].concat()).expect("written");
        rotate("", ".1");
        write("d");
        rotate(".1", ".2");
        rotate("", ".1");
        write("e");
        assert_eq!(texts(&mut file), ["c", "d", "e"]);
        // The file that is being read is removed, after those that are older.
        for text in ["f", "g", "h"] {
            rotate(".1", ".2");
            rotate("", ".1");
            write(text);
        }
        assert_eq!(texts(&mut file), ["f", "g", "h"]);
        assert!(texts(&mut file).is_empty());
    }
}
