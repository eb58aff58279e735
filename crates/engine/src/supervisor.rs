//! The process that owns one machine, from its first stage to its last file.
//!
//! One task changes the machine's state (`machine`, in the loop of `serve`); clients, health probes and
//! signals send it requests. In the foreground this is `mimeo run` itself, with
//! `-d` a process of its own.

mod clients;
mod clock;
mod clone;
mod finish;
mod input;
mod machine;
mod output;
mod probe;
mod relay;
mod run;
mod save;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::message::TerminalSize;
use mimeo_image::Progress;
use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::create::{StartError, create};
use crate::machine::{Exit, MachineSpec, Record};
use crate::{Engine, signal};
pub use clone::supervise_clone;
use signals::Signals;

/// What a machine in the foreground is joined to.
#[derive(Default)]
pub struct Attachment {
    /// Where the container's standard input comes from.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where its standard output goes, divergent_pages the log.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Where its standard error goes, divergent_pages the log.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The terminal's size, as it changes.
    pub size: Option<watch::Receiver<TerminalSize>>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// Why a machine's monitor ended before its machine did.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The machine did not come up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A signal came while it was being made; all is undone.
    #[error("interrupted by {} while the machine was being created: nothing is left of it", signal::name(*signal))]
    Interrupted {
        /// Linux's number of it.
        signal: i32,
    },
    /// Whoever asked for the machine went away before it was up.
    #[error("given up while the machine was being created: nothing is left of it")]
    Cancelled,
    /// The monitor's own means failed.
    #[error("cannot {step}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl SupervisorError {
    /// The exit code for it, as podman's.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Start(error) => error.exit_code(),
            Self::Interrupted { signal } => 128 + signal,
            Self::Cancelled | Self::Io { .. } => 125,
        }
    }
}

/// How long a virtual machine that was ended may take to be gone.
const VMM_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// `error`, once nothing is left of what was being made: what was dropped has
/// been told to end, and has perhaps not ended yet.
async fn after_vmm_exit(error: SupervisorError) -> SupervisorError {
    let end = tokio::time::Instant::now() + VMM_EXIT_TIMEOUT;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // Reaping is the runtime's; none left is what is waited for.
    while rustix::process::waitid(WaitId::All, options).is_ok() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    error
}

/// Makes a machine and stays with it until its end. `started` is called when
/// its container runs; `given_up` ends the making when it completes before.
///
/// The virtual machine dies with the thread that calls this: call it on a
/// runtime of one thread, in the process that is to be the machine's monitor.
///
/// # Errors
/// When the machine does not come up; nothing is left of it then.
pub async fn supervise(
    engine: &Engine,
    spec: MachineSpec,
    attachment: Attachment,
    progress: Arc<dyn Progress>,
    cancelled: impl Future<Output = ()>,
    started: impl FnOnce(&Record),
) -> Result<Exit, SupervisorError> {
    let mut signals =
        Signals::listen().map_err(|source| SupervisorError::Io { step: "listen to signals", source })?;
    let size = attachment.size.as_ref().map(|size| *size.borrow());
    let running = tokio::select! {
        biased;
        signal = signals.interruption() => return Err(after_vmm_exit(SupervisorError::Interrupted { signal }).await),
        running = create(engine, spec, size, progress) => running?,
        () = cancelled => return Err(after_vmm_exit(SupervisorError::Cancelled).await),
    };
    let (_, server_gone) = mpsc::channel(1);
    let endpoints = run::Endpoints { attachment, signals, server_gone };
    run::run(engine, running, endpoints, started).await
}
