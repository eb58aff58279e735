//! The report of a forked child before its program runs: its PID, and the
//! stage that failed, if one did.

use std::os::fd::OwnedFd;

use mimeo_agent_protocol::message::{Failure, FailureKind};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::LaunchInto;
use super::child::Stage;
use super::resolve::Command;
use crate::failure::{Context, SystemError, errno_text, failure};
use crate::watch::{read, watch};

/// Size of a record: a stage and a number.
const RECORD_BYTES: usize = 8;

/// The agent's end of the pipe.
#[derive(Debug)]
pub(super) struct Report(AsyncFd<OwnedFd>);

impl Report {
    pub(super) fn pipe() -> Result<(Self, OwnedFd), SystemError> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("create a pipe")?;
        Ok((Self(watch(reader, Interest::READABLE).context("watch a pipe")?), writer))
    }

    /// Waits until the program runs, and returns the child's PID in its namespace.
    pub(super) async fn wait_for_exec(self, command: &Command, into: LaunchInto<'_>) -> Result<u32, Failure> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 64];
        loop {
            match read(&self.0, &mut chunk).await.context("read the new process's report")? {
                0 => break,
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
        let records = bytes.chunks_exact(RECORD_BYTES).map(parse_record);
        let mut pid = None;
        for (stage, number) in records {
            match Stage::from_number(stage) {
                Some(Stage::Born) => pid = Some(number as u32),
                stage => return Err(describe_failure(stage, number, command, into)),
            }
        }
        pid.ok_or_else(|| failure(FailureKind::WrongState, "the process ended before its program ran"))
    }
}

fn parse_record(bytes: &[u8]) -> (u32, i32) {
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    (u32::from_ne_bytes(word(0)), i32::from_ne_bytes(word(4)))
}

fn describe_failure(stage: Option<Stage>, errno: i32, command: &Command, into: LaunchInto<'_>) -> Failure {
    let program = &command.program;
    let reason = errno_text(errno);
    let (kind, message) = match (stage, errno) {
        (Some(Stage::Exec), libc::ENOENT | libc::ENOTDIR) if !program.contains('/') => (
            FailureKind::CommandNotFound,
            format!("executable file `{program}` not found in $PATH: {reason}"),
        ),
        (Some(Stage::Exec), libc::ENOENT | libc::ENOTDIR) => {
            (FailureKind::CommandNotFound, format!("executable file `{program}` not found: {reason}"))
        }
        (Some(Stage::Exec), _) => (FailureKind::CommandNotExecutable, format!("exec `{program}`: {reason}")),
        (Some(Stage::Directory), _) => {
            let directory = command.directory.to_string_lossy();
            // Podman's exit code for this is 126 too.
            (FailureKind::CommandNotExecutable, format!("chdir to `{directory}`: {reason}"))
        }
        (Some(Stage::Sysctl), _) => {
            let names = match into {
                LaunchInto::NewContainer(machine) => machine.sysctls.keys().cloned().collect(),
                LaunchInto::Container(_) | LaunchInto::Aside(_) => Vec::new(),
            };
            (FailureKind::Invalid, format!("cannot set {}: {reason}", names.join(", ")))
        }
        (Some(Stage::Join), libc::ESRCH) => (FailureKind::WrongState, "the container has ended".to_owned()),
        (Some(stage), _) => (FailureKind::System, format!("cannot {}: {reason}", stage.action())),
        (None, _) => (FailureKind::System, format!("the new process failed: {reason}")),
    };
    failure(kind, message)
}
