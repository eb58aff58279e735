//! `start`: starts a machine that exists and does not run.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::sleep;

use super::ActError;
use super::end::{self, Wait};
use crate::admission::{Demand, reserve};
use crate::launch_request::{AttachingClient, LaunchRequest};
use crate::machine::{Action, Decision, Found, Phase, decide};
use crate::supervisor_process::{SpawnError, StartProgress, SupervisorProcess};
use crate::{Engine, sweep};

/// How long a start by another process may take.
const OTHER_START_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the machine in the background. A machine that runs is no error, and neither is one that another process
/// starts at the same time: it runs when this returns. Returns whether this call has started it.
///
/// # Errors
/// If the machine does not start; it is as before then.
pub async fn start(
    engine: &Engine,
    machine: &Found,
    client: Option<AttachingClient>,
) -> Result<bool, ActError> {
    let started = start_with(engine, machine, Launch::Attached(client), std::future::pending()).await?;
    Ok(started == Started::ByThis)
}

/// How a supervisor is launched.
pub(super) enum Launch<'a> {
    /// With a client that attaches, if there is one.
    Attached(Option<AttachingClient>),
    /// With reports of what happens, and with a reservation of what the machine needs.
    Observed { reports: &'a mut (dyn FnMut(StartProgress) + Send), demand: Option<Demand> },
}

/// How a start has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    /// The machine runs: this call has started it.
    ByThis,
    /// The machine runs: it did already, or another process has started it.
    ByOther,
    /// The start was cancelled, and is undone.
    Undone,
}

/// [`start`], launched like this. When `cancelled` completes, the start is undone.
pub(super) async fn start_with(
    engine: &Engine,
    machine: &Found,
    mut how: Launch<'_>,
    cancelled: impl Future<Output = ()>,
) -> Result<Started, ActError> {
    let mut cancelled = pin!(cancelled);
    let mut machine = machine.clone();
    let mut wait = Wait::new(OTHER_START_TIMEOUT, end::FILES_TIMEOUT);
    loop {
        if !machine.supervised && machine.record.phase().is_live() {
            sweep(engine)?;
        }
        let phase = if machine.supervised { machine.record.phase() } else { Phase::Exited };
        let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
        match decide(phase, Action::Start).map_err(refused)? {
            // The supervisor is still cleaning up, or this command has not swept yet.
            Decision::Proceed if machine.supervised => {}
            Decision::Proceed => match launch(engine, &machine, &mut how, cancelled.as_mut()).await {
                Err(ActError::Start { source: SpawnError::Supervised, .. }) => {}
                done => return done,
            },
            _ if phase == Phase::Running => return Ok(Started::ByOther),
            _ => {}
        }
        if wait.is_over(engine, &machine)? {
            return Err(ActError::NotStarted { name: machine.record.name, timeout: OTHER_START_TIMEOUT });
        }
        tokio::select! {
            () = sleep(end::POLL_INTERVAL) => {}
            () = cancelled.as_mut() => return Ok(Started::Undone),
        }
        machine = end::read(engine, &machine)?;
    }
}

/// Waits until another process has started the machine, or has failed to. Returns its state.
pub(super) async fn wait_until_started(engine: &Engine, machine: &Found) -> Result<Found, ActError> {
    let mut wait = Wait::new(OTHER_START_TIMEOUT, end::FILES_TIMEOUT);
    let mut machine = machine.clone();
    while machine.supervised && machine.record.phase() == Phase::Creating {
        if wait.is_over(engine, &machine)? {
            return Err(ActError::NotStarted { name: machine.record.name, timeout: OTHER_START_TIMEOUT });
        }
        sleep(end::POLL_INTERVAL).await;
        machine = end::read(engine, &machine)?;
    }
    Ok(machine)
}

async fn launch(
    engine: &Engine,
    machine: &Found,
    how: &mut Launch<'_>,
    cancelled: Pin<&mut impl Future<Output = ()>>,
) -> Result<Started, ActError> {
    let (id, report) = (machine.record.id.clone(), matches!(how, Launch::Observed { .. }));
    let client = if let Launch::Attached(client) = how { client.clone() } else { None };
    let request = LaunchRequest::Start { machine: id, client, report };
    let started = async {
        let demand = if let Launch::Observed { demand, .. } = how { *demand } else { None };
        let _reservation = demand.map(|demand| reserve(engine, demand)).transpose()?;
        let mut supervisor = SupervisorProcess::start(engine.home(), &request).await?;
        let launched = async {
            match how {
                Launch::Attached(_) => supervisor.started().await,
                Launch::Observed { reports, .. } => supervisor.launched(reports).await.map(drop),
            }
        };
        tokio::select! {
            launched = launched => launched?,
            () = cancelled => {
                let runs = supervisor.cancel().await.is_some();
                return Ok(if runs { Started::ByThis } else { Started::Undone });
            }
        }
        supervisor.detach();
        Ok(Started::ByThis)
    };
    started.await.map_err(|source| ActError::Start { name: machine.record.name.clone(), source })
}
