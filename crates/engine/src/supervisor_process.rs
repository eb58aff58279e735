//! Starts supervisors of machines as child processes.

use std::fmt;
use std::io;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Semaphore;

use crate::admission::{Insufficient, InsufficientMemory, InsufficientSpace};
use crate::cause::chain;
use crate::home::{HOME_VARIABLE, Home, RUN_VARIABLE};
use crate::ignored::LogFailure;
use crate::launch_request::{
    CloneInfo, LaunchRequest, MachineInfo, PullProgress, Release, StartFailure, StartFailureKind,
    SupervisorReport,
};
use crate::machine::MachineName;
use crate::own_program::own_program;

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The supervisor could not be started or communicated with.
    #[error("cannot {step} the machine's supervisor")]
    Io {
        /// The operation that failed.
        step: &'static str,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The supervisor reported a failure.
    #[error("{}", .0.message)]
    Failed(Box<StartFailure>),
    /// The machine has a supervisor already, or was removed.
    #[error("another process has started the machine, or removed it")]
    Supervised,
    /// The supervisor ended without a report.
    #[error("the machine's supervisor exited without a report: probably it was killed")]
    Gone,
    /// A repeated fork names a clone that was removed.
    #[error("the clone no longer exists: it was removed")]
    Removed,
    /// There is not enough memory for it.
    #[error(transparent)]
    Memory(#[from] InsufficientMemory),
    /// There is not enough disk space for it.
    #[error(transparent)]
    Space(#[from] InsufficientSpace),
}

impl From<Insufficient> for SpawnError {
    fn from(error: Insufficient) -> Self {
        match error {
            Insufficient::Memory(error) => Self::Memory(error),
            Insufficient::Space(error) => Self::Space(error),
        }
    }
}

impl SpawnError {
    /// Returns what kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StartFailureKind {
        match self {
            Self::Failed(failure) => failure.kind,
            Self::Supervised | Self::Removed => StartFailureKind::Supervised,
            Self::Gone => StartFailureKind::SupervisorGone,
            Self::Memory(_) => StartFailureKind::InsufficientMemory,
            Self::Space(_) => StartFailureKind::NoSpace,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                StartFailureKind::InsufficientMemory
            }
            Self::Io { .. } => StartFailureKind::Other,
        }
    }
}

impl SpawnError {
    /// The error of a failure that another process reports.
    pub(crate) fn from_failure(failure: Box<StartFailure>) -> Self {
        match failure.kind {
            StartFailureKind::SupervisorGone => Self::Gone,
            _ => Self::Failed(failure),
        }
    }

    /// The failure as a supervisor reports it.
    pub(crate) fn into_failure(self) -> StartFailure {
        match self {
            Self::Failed(failure) => *failure,
            other => StartFailure { kind: other.kind(), ..StartFailure::from_message(chain(&other)) },
        }
    }
}

/// What happens while a machine is being started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartProgress {
    /// A stage has ended.
    Stage {
        /// Its name, as in the record's times.
        stage: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// The image is being pulled.
    Pull(PullProgress),
}

/// A machine's supervisor. If it is dropped before the machine runs, the start is undone.
#[derive(Debug)]
pub(crate) struct SupervisorProcess {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl SupervisorProcess {
    /// Starts the supervisor and sends it the request.
    pub(crate) async fn start(home: &Home, request: &LaunchRequest) -> Result<Self, SpawnError> {
        let io = |step| move |source| SpawnError::Io { step, source };
        let mut program = own_program().map_err(io("find the program of"))?;
        let mut process = program
            .arg("supervisor")
            .env(HOME_VARIABLE, home.home())
            .env(RUN_VARIABLE, home.run())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io("start"))?;
        // It starts nothing before it has received its request.
        crate::restore_open_files(process.id());
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(SpawnError::Gone);
        };
        let mut this = Self { process, stdin, lines: BufReader::new(stdout).lines() };
        this.send_line(request).await?;
        Ok(this)
    }

    /// Waits until the clone's identity has been applied.
    pub(crate) async fn ready(&mut self) -> Result<CloneInfo, SpawnError> {
        match self.read_report().await? {
            SupervisorReport::Ready { clone } | SupervisorReport::Running { clone } => Ok(*clone),
            other => Err(failure(other)),
        }
    }

    /// Waits until the requested machine runs, or was created, and passes on what is reported before. Safe to cancel.
    pub(crate) async fn launched(
        &mut self,
        mut reports: impl FnMut(StartProgress) + Send,
    ) -> Result<MachineInfo, SpawnError> {
        loop {
            match self.read_report().await? {
                SupervisorReport::Launched { machine } | SupervisorReport::Created { machine } => {
                    return Ok(machine);
                }
                SupervisorReport::Stage { stage, milliseconds } => {
                    reports(StartProgress::Stage { stage, milliseconds });
                }
                SupervisorReport::Pull(progress) => reports(StartProgress::Pull(progress)),
                other => return Err(failure(other)),
            }
        }
    }

    /// Cancels a start, and waits until the supervisor has undone it. Returns the machine if it runs already, and leaves it
    /// running.
    pub(crate) async fn cancel(self) -> Option<MachineInfo> {
        self.undo(|report| match report {
            SupervisorReport::Launched { machine } | SupervisorReport::Created { machine } => Some(machine),
            _ => None,
        })
        .await
    }

    /// Cancels the start of a clone, like [`cancel`](Self::cancel).
    pub(crate) async fn cancel_clone(self) -> Option<CloneInfo> {
        self.undo(|report| match report {
            SupervisorReport::Running { clone } => Some(*clone),
            _ => None,
        })
        .await
    }

    /// Tells the supervisor to undo the start, and waits until it has, or until it reports what runs.
    async fn undo<T>(self, running: impl Fn(SupervisorReport) -> Option<T>) -> Option<T> {
        let Self { mut process, stdin, mut lines } = self;
        drop(stdin);
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(running) = serde_json::from_str(&line).ok().and_then(&running) {
                return Some(running);
            }
        }
        process.wait().await.log_failure("start", "wait for the supervisor of a cancelled start");
        None
    }

    /// Waits until a machine that existed before runs.
    pub(crate) async fn started(&mut self) -> Result<(), SpawnError> {
        match self.read_report().await? {
            SupervisorReport::Started => Ok(()),
            other => Err(failure(other)),
        }
    }

    /// Releases a held clone and waits until it runs.
    pub(crate) async fn release(&mut self, release: &Release) -> Result<CloneInfo, SpawnError> {
        self.send_line(release).await?;
        self.ready().await
    }

    /// Abandons the clone and waits until its supervisor has removed it.
    pub(crate) async fn abandon(self) {
        let Self { mut process, stdin, lines } = self;
        drop((stdin, lines));
        process.wait().await.log_failure("clone", "wait for the supervisor of an abandoned clone");
    }

    /// Lets the clone run independently of this process.
    pub(crate) fn detach(self) {}

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Waits until the process has ended, for any reason.
    pub(crate) async fn wait(&mut self) {
        self.process.wait().await.log_failure("clone", "wait for a clone's supervisor");
    }

    async fn read_report(&mut self) -> Result<SupervisorReport, SpawnError> {
        let io = |source| SpawnError::Io { step: "read from", source };
        let Some(line) = self.lines.next_line().await.map_err(io)? else {
            // What it held, such as the machine's lock, is released only when it has exited.
            self.wait().await;
            return Err(SpawnError::Gone);
        };
        serde_json::from_str(&line).map_err(|error| io(error.into()))
    }

    async fn send_line<T: serde::Serialize>(&mut self, value: &T) -> Result<(), SpawnError> {
        let io = |source| SpawnError::Io { step: "write to", source };
        let mut line = serde_json::to_vec(value).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        match self.stdin.write_all(&line).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(SpawnError::Gone),
            other => other.map_err(io),
        }
    }
}

fn failure(report: SupervisorReport) -> SpawnError {
    match report {
        SupervisorReport::Failed(failure) => SpawnError::Failed(Box::new(failure)),
        SupervisorReport::Supervised => SpawnError::Supervised,
        other => SpawnError::Io {
            step: "understand",
            source: io::Error::other(format!("unexpected report {other:?}")),
        },
    }
}

/// The result of starting one requested clone.
#[derive(Debug)]
pub struct Cloned {
    /// The requested name, or the clone's index in the request.
    pub requested: String,
    /// The clone, or why it was not started.
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

/// Limits how many clones start at the same time: more starts than the host has CPUs would only slow each
/// other down.
pub(crate) fn start_permits() -> Arc<Semaphore> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Arc::new(Semaphore::new(cpus + 1))
}

pub(crate) fn clone_label(name: Option<&MachineName>, index: usize) -> String {
    name.map_or_else(|| format!("clone {}", index + 1), ToString::to_string)
}
