//! The supervisor: the process that owns one machine from its creation to its removal.
//!
//! One task changes the machine's state (`machine`, in the loop of `run`); clients, health probes and
//! signals send it requests. In the foreground the supervisor is `mimeo run` itself; with `-d` it is a
//! separate process.

mod attach;
mod clients;
mod clock;
mod clone;
mod disk_error;
mod finish;
mod foreground;
mod input;
mod machine;
mod output;
mod ports;
mod probe;
mod relay;
mod restart;
mod run;
mod save;
mod signals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mimeo_agent_protocol::message::TerminalSize;
use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::cause::chain;
use crate::create::{StageError, Start, StartError, StartOptions};
use crate::launch_request::{StartFailure, StartFailureKind};
use crate::machine::{ClaimError, Exit, ProcessIdentity, Record};
use crate::{Engine, create, signal};
pub use clone::supervise_clone;
use signals::Signals;

/// The streams and the terminal that a machine in the foreground is connected to.
#[derive(Default)]
pub struct Attachment {
    /// The client that attaches as soon as the container runs; the container's output waits for it.
    pub client: Option<ProcessIdentity>,
    /// Source of the container's standard input.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Destination of the container's standard output, besides the log.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Destination of the container's standard error, besides the log.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The terminal's size, updated when it changes.
    pub size: Option<watch::Receiver<TerminalSize>>,
    /// Why output could not be written to these streams, once that has failed. A closed pipe is no failure.
    pub failure: OutputFailure,
}

/// The error of a foreground stream.
pub type OutputFailure = Arc<Mutex<Option<std::io::Error>>>;

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// Why a supervisor ended before its machine did.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The machine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A signal arrived during the creation; everything was undone.
    #[error("interrupted by {} while the machine was being created: everything was undone", signal::name(*signal))]
    Interrupted {
        /// Linux's signal number.
        signal: i32,
    },
    /// The client that requested the machine disconnected before the machine ran.
    #[error("cancelled while the machine was being created: everything was undone")]
    Cancelled,
    /// An operation of the supervisor itself failed.
    #[error("cannot {step}")]
    Io {
        /// The operation.
        step: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl SupervisorError {
    /// Whether another process has started the machine, or removed it.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        let Self::Start(StartError { source: StageError::Claim(error), .. }) = self else { return false };
        matches!(error, ClaimError::Supervised { .. } | ClaimError::Unswept { .. })
    }

    /// Returns what kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StartFailureKind {
        match self {
            Self::Start(error) => error.kind(),
            Self::Interrupted { .. } | Self::Cancelled => StartFailureKind::Cancelled,
            Self::Io { .. } => StartFailureKind::Other,
        }
    }

    /// Describes the failure for the process that requested the start.
    #[must_use]
    pub fn failure(&self) -> StartFailure {
        let (stage, console) = match self {
            // The agent's refusal explains itself.
            Self::Start(start) if start.source.is_guest_refusal() => (Some(start.stage), Vec::new()),
            Self::Start(start) => (Some(start.stage), start.console.clone()),
            _ => (None, Vec::new()),
        };
        let stage = stage.map(|stage| stage.name().to_owned());
        StartFailure { message: chain(self), code: self.exit_code(), kind: self.kind(), stage, console }
    }

    /// The exit code that podman uses for such an error.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Start(error) => error.exit_code(),
            Self::Interrupted { signal } => 128 + signal,
            Self::Cancelled | Self::Io { .. } => 125,
        }
    }
}

/// Time for a killed VMM to exit.
const VMM_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns `error` once the VMM has exited: dropping a machine under construction kills its VMM, which may
/// take a moment to exit.
async fn after_vmm_exit(error: SupervisorError) -> SupervisorError {
    let end = tokio::time::Instant::now() + VMM_EXIT_TIMEOUT;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // tokio reaps the children; the loop waits until none is left.
    while rustix::process::waitid(WaitId::All, options).is_ok() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    error
}

/// Starts a machine and supervises it until its end. `started` is called when the container runs; if
/// `cancelled` completes before that, the start is undone. As long as the machine's restart policy requests it, the
/// machine is started again.
///
/// The VMM dies with the thread that calls this function: call it on a single-threaded runtime, in the
/// process that is to be the machine's supervisor.
///
/// # Errors
/// When the machine does not start; everything is undone in that case.
pub async fn supervise(
    engine: &Engine,
    start: Start,
    attachment: Attachment,
    options: StartOptions,
    cancelled: impl Future<Output = ()>,
    started: impl FnOnce(&Record),
) -> Result<Exit, SupervisorError> {
    let mut signals =
        Signals::listen().map_err(|source| SupervisorError::Io { step: "listen to signals", source })?;
    let size = attachment.size.as_ref().map(|size| *size.borrow());
    let running = tokio::select! {
        biased;
        signal = signals.interruption() => return Err(after_vmm_exit(SupervisorError::Interrupted { signal }).await),
        running = create::start(engine, start, size, &options) => running?,
        () = cancelled => return Err(after_vmm_exit(SupervisorError::Cancelled).await),
    };
    let (_, server_gone) = mpsc::channel(1);
    let endpoints = run::Endpoints { attachment, signals: &mut signals, server_gone };
    let ended = run::run(engine, running, endpoints, started).await?;
    Ok(restart::restart_while_due(engine, ended, &mut signals).await)
}
