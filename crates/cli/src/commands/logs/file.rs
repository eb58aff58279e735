//! Reads a log file that is still being written.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use mimeo_engine::log::LogLine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::error::CliError;

/// Bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// The longest wait before the caller checks the machine's state again: a
/// machine may exit without writing to its log.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// The start of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// The inotify watch of the file; `None` if inotify has no watch left.
    changes: Option<OwnedFd>,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, partial: Vec::new(), changes: None }
    }

    /// Reads all complete lines. A machine that has written nothing has no log file yet.
    pub(super) fn read(
        &mut self,
        mut on_line: impl FnMut(LogLine) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let failed = |source| CliError::io(format!("read {}", self.path.display()), source);
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                file => Some(file.map_err(failed)?),
            };
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut chunk).map_err(failed)?;
            if count == 0 {
                return Ok(());
            }
            self.partial.extend_from_slice(&chunk[..count]);
            let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut lines = self.partial[..complete].split(|byte| *byte == b'\n').filter_map(LogLine::parse);
            lines.try_for_each(&mut on_line)?;
            self.partial.drain(..complete);
        }
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
        add_watch(&changes, &self.path, WatchFlags::MODIFY)?;
        Ok(changes)
    }
}
