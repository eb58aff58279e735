//! Measures how long commands take.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A command that takes longer counts as hung. A cold boot on a busy host takes a
/// tenth of it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Times in milliseconds from a command's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// To the first byte of its output.
    pub(super) first: f64,
    /// To its end.
    pub(super) total: f64,
}

/// A command that has ended or was killed after the timeout.
#[derive(Debug)]
pub(super) struct Attempt {
    first: Option<f64>,
    total: f64,
    status: ExitStatus,
    stdout: String,
    pub(super) stderr: String,
    pub(super) hung: bool,
}

impl Attempt {
    /// Returns its times if it succeeded and printed `expected`.
    pub(super) fn printed(&self, expected: &str) -> Result<Times> {
        ensure!(!self.hung, "hung for {} s: {}", COMMAND_TIMEOUT.as_secs(), self.stderr.trim());
        ensure!(self.status.success(), "ended with {}: {}", self.status, self.stderr.trim());
        ensure!(self.stdout == expected, "printed {:?} instead of {expected:?}", self.stdout);
        Ok(Times { first: self.first.unwrap_or(self.total), total: self.total })
    }
}

/// Runs a command to its end, or kills it after the timeout.
pub(super) fn run(command: &mut Command) -> Result<Attempt> {
    let mut stderr = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut stdout = Vec::new();
    let pipe = child.stdout.take().context("stdout is piped")?;
    let (first, hung) = read_output(pipe, begun, &mut stdout)?;
    let status = end(&mut child, hung)?;
    let total = millis(begun);
    Ok(Attempt {
        first,
        total,
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: text(&mut stderr)?,
        hung,
    })
}

/// Reads to the end; returns the time of the first byte, and whether the timeout expired.
fn read_output(mut pipe: ChildStdout, begun: Instant, into: &mut Vec<u8>) -> Result<(Option<f64>, bool)> {
    let mut first = None;
    let mut buffer = [0; 4096];
    loop {
        if !readable(&pipe, COMMAND_TIMEOUT.saturating_sub(begun.elapsed()))? {
            return Ok((first, true));
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok((first, false)),
            count => into.extend_from_slice(&buffer[..count]),
        }
        first.get_or_insert_with(|| millis(begun));
    }
}

fn readable(pipe: &ChildStdout, timeout: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(timeout)?;
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

/// Milliseconds since `begun`.
pub(super) fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// A runtime for calls of the engine.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
