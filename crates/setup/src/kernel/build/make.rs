//! Runs `make`, with its output in a log that outlives a failure.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use crate::files::{FileError, IoContext as _};

/// How often a build's progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of a failed build's log that its error shows.
const TAIL_BYTES: u64 = 2000;

/// Why `make` failed.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// It could not be started or waited for.
    #[error("cannot run make")]
    Run(#[source] io::Error),
    /// It failed.
    #[error("make {target} failed ({status}); the full log is {}; its last lines:\n{tail}", log.display())]
    Failed {
        /// The target.
        target: String,
        /// Its exit status.
        status: ExitStatus,
        /// The log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The log could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A source tree, a directory for the output, and a log.
#[derive(Debug)]
pub(super) struct Make<'a> {
    pub(super) source: &'a Path,
    pub(super) out: &'a Path,
    pub(super) log: &'a Path,
    /// Passed as KCONFIG_ALLCONFIG.
    pub(super) config: &'a Path,
}

impl Make<'_> {
    /// Makes one target. Calls `tick` now and then with the number of lines in the log.
    pub(super) fn run(&self, target: &str, mut tick: impl FnMut(usize)) -> Result<(), MakeError> {
        let mut child = self.spawn(target)?;
        let status = loop {
            match wait_for_report(&mut child).map_err(MakeError::Run)? {
                Some(status) => break status,
                None => tick(count_lines(self.log)?),
            }
        };
        if status.success() { Ok(()) } else { Err(self.failed(target, status)) }
    }

    fn spawn(&self, target: &str) -> Result<Child, MakeError> {
        let log = File::options().create(true).append(true).open(self.log).at("open", self.log)?;
        let jobs = available_parallelism().map_or(1, NonZero::get);
        let mut command = Command::new("make");
        command.arg("-C").arg(self.source).arg(format!("O={}", self.out.display()));
        command.arg(format!("-j{jobs}")).arg(target).env("KCONFIG_ALLCONFIG", self.config);
        // Otherwise the names of the user and the host would be part of the kernel.
        command.env("KBUILD_BUILD_USER", "mimeo").env("KBUILD_BUILD_HOST", "mimeo").env("LC_ALL", "C");
        let stderr = log.try_clone().at("open", self.log)?;
        command.stdin(Stdio::null()).stdout(log).stderr(stderr).spawn().map_err(MakeError::Run)
    }

    fn failed(&self, target: &str, status: ExitStatus) -> MakeError {
        let tail = read_tail(self.log).unwrap_or_default();
        MakeError::Failed { target: target.to_owned(), status, log: self.log.to_owned(), tail }
    }
}

/// Waits until `make` exits, or until it is time for the next report.
fn wait_for_report(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + REPORT_INTERVAL;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(None)
}

fn count_lines(log: &Path) -> Result<usize, FileError> {
    Ok(fs::read(log).at("read", log)?.iter().filter(|byte| **byte == b'\n').count())
}

fn read_tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_reports_its_log_and_the_end_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Makefile"), "all:\n\t@echo compiling $(O); echo broken here >&2; false\n")
            .unwrap();
        let log = dir.path().join("log");
        let make = Make { source: dir.path(), out: dir.path(), log: &log, config: &log };
        let error = make.run("all", |_| {}).unwrap_err();
        let MakeError::Failed { tail, log: path, .. } = error else { panic!("{error:?}") };
        assert!(tail.contains("broken here"), "{tail}");
        assert_eq!(path, log);
    }
}
