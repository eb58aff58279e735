//! `run`, `create` and `start` of a machine, in a supervisor of its own that the caller observes. Any process can be the
//! caller, on any runtime: the supervisor is a process of its own, and the machine outlives the caller.

use super::start::{Launch, Started, start_with};
use super::{ActError, SpawnError};
use crate::Engine;
use crate::admission::{Demand, Reservation, reserve};
use crate::launch_request::{LaunchRequest, MachineInfo, RegistryLogin};
use crate::machine::{Found, MachineId, MachineSpec};
use crate::supervisor_process::{StartProgress, SupervisorProcess};

/// A request for a machine from an image.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The machine's settings.
    pub spec: MachineSpec,
    /// Its id; random if absent.
    pub id: Option<MachineId>,
    /// The login at the image's registry, instead of those of the login files. It is stored nowhere.
    pub registry_login: Option<RegistryLogin>,
}

impl RunRequest {
    /// Requests a machine with a random id.
    #[must_use]
    pub fn new(spec: MachineSpec) -> Self {
        Self { spec, id: None, registry_login: None }
    }
}

/// A start that is under way in a supervisor. If this value is dropped before the machine runs, the supervisor undoes the
/// start; [`Starting::abandon`] also waits for that.
#[derive(Debug)]
pub struct Starting {
    supervisor: SupervisorProcess,
    /// The machine, once it runs.
    finished: Option<MachineInfo>,
    /// What it needs of the host, until it runs.
    reservation: Option<Reservation>,
}

impl Starting {
    /// Waits until the machine runs, or, if that was requested, until it was created. Passes on what happens meanwhile.
    /// Safe to cancel: a later call continues.
    ///
    /// # Errors
    /// If the machine was not started. Everything is undone then.
    pub async fn finish(
        &mut self,
        reports: impl FnMut(StartProgress) + Send,
    ) -> Result<MachineInfo, SpawnError> {
        let machine = self.supervisor.launched(reports).await?;
        self.finished = Some(machine.clone());
        self.reservation = None;
        Ok(machine)
    }

    /// Gives the start up, and waits until everything is undone. If the machine runs already, it is left running and
    /// returned.
    pub async fn abandon(self) -> Option<MachineInfo> {
        match self.finished {
            Some(machine) => Some(machine),
            None => self.supervisor.cancel().await,
        }
    }
}

/// Starts a machine from an image: returns while its supervisor has just begun. What the machine needs to start is reserved
/// until it runs.
///
/// # Errors
/// If the host has not that much, or there is no supervisor.
pub async fn begin_run(engine: &Engine, request: RunRequest) -> Result<Starting, SpawnError> {
    let reservation = reserve(engine, Demand::to_start(&request.spec))?;
    begin_run_with(engine, request, Some(reservation)).await
}

/// As [`begin_run`], for a caller that has reserved what it considers necessary, and gives it up to the start.
///
/// # Errors
/// If there is no supervisor.
pub async fn begin_run_with(
    engine: &Engine,
    request: RunRequest,
    reservation: Option<Reservation>,
) -> Result<Starting, SpawnError> {
    let RunRequest { spec, id, registry_login } = request;
    let spec = Box::new(spec);
    let request = LaunchRequest::Run { spec, quiet: true, client: None, id, report: true, registry_login };
    begin(engine, &request, reservation).await
}

/// Creates a machine from an image without starting it: returns while the process that creates it has just begun.
///
/// # Errors
/// If there is no such process.
pub async fn begin_create(engine: &Engine, request: RunRequest) -> Result<Starting, SpawnError> {
    let RunRequest { spec, id, registry_login } = request;
    begin(engine, &LaunchRequest::Create { spec: Box::new(spec), id, registry_login }, None).await
}

async fn begin(
    engine: &Engine,
    request: &LaunchRequest,
    reservation: Option<Reservation>,
) -> Result<Starting, SpawnError> {
    Ok(Starting {
        supervisor: SupervisorProcess::start(engine.home(), request).await?,
        finished: None,
        reservation,
    })
}

/// Starts a machine from an image, and returns when its container runs. Dropping the future undoes the start.
///
/// # Errors
/// If the machine was not started. Everything is undone then.
pub async fn run(
    engine: &Engine,
    request: RunRequest,
    reports: impl FnMut(StartProgress) + Send,
) -> Result<MachineInfo, SpawnError> {
    begin_run(engine, request).await?.finish(reports).await
}

/// Creates a machine from an image without starting it. Dropping the future undoes what was done.
///
/// # Errors
/// If the machine was not created. Everything is undone then.
pub async fn create(
    engine: &Engine,
    request: RunRequest,
    reports: impl FnMut(StartProgress) + Send,
) -> Result<MachineInfo, SpawnError> {
    begin_create(engine, request).await?.finish(reports).await
}

/// Starts a machine that exists, as [`start`](super::start), and passes on what happens meanwhile. What the machine needs to
/// start is reserved until it runs. When `cancelled` completes, the start is undone, and `None` is returned after that; a
/// machine that runs by then is left running. Dropping the future has the start undone, too, but later.
///
/// # Errors
/// If the host has not that much; else as [`start`](super::start).
pub async fn start_unless(
    engine: &Engine,
    machine: &Found,
    mut reports: impl FnMut(StartProgress) + Send,
    cancelled: impl Future<Output = ()>,
) -> Result<Option<bool>, ActError> {
    let launch =
        Launch::Observed { reports: &mut reports, demand: Some(Demand::to_start(&machine.record.spec)) };
    Ok(match start_with(engine, machine, launch, cancelled).await? {
        Started::ByThis => Some(true),
        Started::ByOther => Some(false),
        Started::Undone => None,
    })
}

/// As [`start_unless`], but never cancelled, for a caller that holds a reservation of what it considers necessary until this
/// returns.
///
/// # Errors
/// As [`start`](super::start).
pub async fn start_reserved(
    engine: &Engine,
    machine: &Found,
    reservation: Reservation,
    mut reports: impl FnMut(StartProgress) + Send,
) -> Result<bool, ActError> {
    let launch = Launch::Observed { reports: &mut reports, demand: None };
    let started = start_with(engine, machine, launch, std::future::pending()).await;
    drop(reservation);
    Ok(started? == Started::ByThis)
}
