//! Runs a command and looks at the clock.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A command that says nothing for so long hangs. A cold boot on a busy host
/// takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds from the start of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// To the first byte of its output.
    pub(super) first: f64,
    /// To its end.
    pub(super) whole: f64,
}

/// A command that has ended, or was ended.
#[derive(Debug)]
pub(super) struct Attempt {
    first: Option<f64>,
    whole: f64,
    status: ExitStatus,
    stdout: String,
    pub(super) stderr: String,
    pub(super) hung: bool,
}

impl Attempt {
    /// Its times, if it succeeded and printed this.
    pub(super) fn printed(&self, expected: &str) -> Result<Times> {
        ensure!(!self.hung, "hung for {} s: {}", PATIENCE.as_secs(), self.stderr.trim());
        ensure!(self.status.success(), "ended with {}: {}", self.status, self.stderr.trim());
        ensure!(self.stdout == expected, "printed {:?} instead of {expected:?}", self.stdout);
        Ok(Times { first: self.first.unwrap_or(self.whole), whole: self.whole })
    }
}

/// Runs a command to its end, or to that of our patience.
pub(super) fn run(command: &mut Command) -> Result<Attempt> {
    let mut stderr = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let mut stdout = Vec::new();
    let pipe = child.stdout.take().context("it was asked for")?;
    let (first, hung) = listen(pipe, begun, &mut stdout)?;
    let status = end(&mut child, hung)?;
    let whole = millis(begun);
    Ok(Attempt {
        first,
        whole,
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: text(&mut stderr)?,
        hung,
    })
}

/// Reads to the end; when the first byte came, and whether patience ended first.
fn listen(mut pipe: ChildStdout, begun: Instant, into: &mut Vec<u8>) -> Result<(Option<f64>, bool)> {
    let mut first = None;
    let mut buffer = [0; 4096];
    loop {
        if !readable(&pipe, PATIENCE.saturating_sub(begun.elapsed()))? {
            return Ok((first, true));
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok((first, false)),
            count => into.extend_from_slice(&buffer[..count]),
        }
        first.get_or_insert_with(|| millis(begun));
    }
}

fn readable(pipe: &ChildStdout, patience: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(patience)?;
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => bail!("poll: {error}"),
    }
}

fn end(child: &mut Child, hung: bool) -> Result<ExitStatus> {
    if hung {
        child.kill()?;
    }
    Ok(child.wait()?)
}

fn text(file: &mut File) -> Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Milliseconds since then.
pub(super) fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// What calls of the engine run on.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
