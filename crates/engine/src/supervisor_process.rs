//! Processes that own machines, started by others.

use std::fmt;
use std::io;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::admission::InsufficientMemory;
use crate::cause::chain;
use crate::launch_request::{CloneInfo, LaunchRequest, Release, SupervisorReport};
use crate::machine::MachineName;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its process could not be started or talked to.
    #[error("cannot {step} the copy's monitor")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It failed, and says how.
    #[error("{0}")]
    Failed(String),
    /// It ended without a word.
    #[error("the copy's monitor ended without a word: it was killed")]
    Gone,
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] InsufficientMemory),
}

/// A process that makes a copy and owns it. Dropped before the copy runs, the
/// copy is given up.
#[derive(Debug)]
pub(crate) struct SupervisorProcess {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl SupervisorProcess {
    /// Starts it and tells it what to make.
    pub(crate) async fn start(request: &LaunchRequest) -> Result<Self, SpawnError> {
        let io = |step| move |source| SpawnError::Io { step, source };
        let program = std::env::current_exe().map_err(io("find the program of"))?;
        let mut process = Command::new(program)
            .arg("supervisor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io("start"))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(SpawnError::Gone);
        };
        let mut this = Self { process, stdin, lines: BufReader::new(stdout).lines() };
        this.send_line(request).await?;
        Ok(this)
    }

    /// Waits until the copy is itself and holds.
    pub(crate) async fn ready(&mut self) -> Result<CloneInfo, SpawnError> {
        match self.read_report().await? {
            SupervisorReport::Ready { clone } | SupervisorReport::Running { clone } => Ok(*clone),
            SupervisorReport::Failed { message } => Err(SpawnError::Failed(message)),
        }
    }

    /// Lets a copy that holds go on, and waits until it runs.
    pub(crate) async fn release(&mut self, release: &Release) -> Result<CloneInfo, SpawnError> {
        self.send_line(release).await?;
        self.ready().await
    }

    /// Gives the copy up, and waits until nothing is left of it.
    pub(crate) async fn abandon(self) {
        let Self { mut process, stdin, lines } = self;
        drop((stdin, lines));
        process.wait().await.ok();
    }

    /// The copy runs by itself from here on.
    pub(crate) fn detach(self) {}

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Waits until the process has ended, for whatever reason.
    pub(crate) async fn wait(&mut self) {
        self.process.wait().await.ok();
    }

    async fn read_report(&mut self) -> Result<SupervisorReport, SpawnError> {
        let io = |source| SpawnError::Io { step: "listen to", source };
        let line = self.lines.next_line().await.map_err(io)?.ok_or(SpawnError::Gone)?;
        serde_json::from_str(&line).map_err(|error| io(error.into()))
    }

    async fn send_line<T: serde::Serialize>(&mut self, value: &T) -> Result<(), SpawnError> {
        let io = |source| SpawnError::Io { step: "tell", source };
        let mut line = serde_json::to_vec(value).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        match self.stdin.write_all(&line).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(SpawnError::Gone),
            other => other.map_err(io),
        }
    }
}

/// What became of one copy that was asked for.
#[derive(Debug)]
pub struct Cloned {
    /// The name that was asked for, or its index in the request.
    pub requested: String,
    /// The copy, or why there is none.
    pub outcome: Result<CloneInfo, SpawnError>,
}

impl fmt::Display for Cloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(info) => write!(f, "{}", info.name),
            Err(error) => write!(f, "{}: {}", self.requested, chain(error)),
        }
    }
}

/// Copies that are started at the same time: more than the host has processors
/// for would only push each other aside, and all be late.
pub(crate) fn start_permits() -> Arc<Semaphore> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Arc::new(Semaphore::new(processors + 1))
}

pub(crate) fn clone_label(name: Option<&MachineName>, index: usize) -> String {
    name.map_or_else(|| format!("copy {}", index + 1), ToString::to_string)
}
