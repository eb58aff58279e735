//! Starts a machine: a new one from its spec, or an existing one with the disk that it has; to a running container.
//!
//! The start is a chain of stages. Each stage is a value that only the stage before it can make, and owns what
//! it has allocated: dropping it at any moment undoes the stage.

mod answering;
mod files;
mod imaged;
mod launched;
mod mounts;
mod networked;
mod options;
mod planned;
pub(crate) mod process;
mod running;
mod scratch;
mod system;
mod volumes;

use std::sync::Arc;

use mimeo_agent_protocol::message::TerminalSize;
use mimeo_image::Quiet;

use crate::machine::{Claim, MachineId, MachineLock, Record, State, VolumeMount};
pub use crate::stage::{Stage, StageError, StartError};
use crate::volumes::VolumeName;
use crate::{Engine, MachineSpec};
use answering::Answering;
pub(crate) use answering::console_tail;
pub(crate) use files::DiskGuest;
use imaged::Imaged;
pub use options::{StageObserver, StartOptions};
use planned::Planned;
pub(crate) use planned::Stopwatch;
pub use running::Running;
pub(crate) use running::{Guest, Session, Vm};
pub use scratch::Scratch;
pub(crate) use system::write_seed;
pub(crate) use volumes::attach_volumes;

/// What to start.
#[derive(Debug, Clone)]
pub enum Start {
    /// A new machine.
    New(Box<MachineSpec>),
    /// A machine that exists and does not run.
    Existing(MachineId),
}

/// Starts a machine and its container. If the container has a terminal, its initial size is `size`.
///
/// Dropping the future undoes what was done so far: a new machine is removed, an existing one is as it was before. Call
/// it on a thread that lives as long as the machine: the VMM is killed when that thread ends.
///
/// # Errors
/// The error names the stage that failed. Nothing is left behind.
pub async fn start(
    engine: &Engine,
    start: Start,
    size: Option<TerminalSize>,
    options: &StartOptions,
) -> Result<Running, StartError> {
    let first = plan(engine, start.clone(), options)?;
    match start_planned(engine, first, size, options).await {
        // The first guest on this host's KVM failed. This is recorded at least in this process, so each driver
        // fails this way at most once.
        Err(StartError { source: StageError::Kvm { .. }, .. }) => {
            Box::pin(self::start(engine, start, size, options)).await
        }
        done => done,
    }
}

/// Starts a machine that was claimed just now, and has its image and its disk.
pub(crate) async fn start_claimed(engine: &Engine, claim: Claim) -> Result<Running, StartError> {
    let options = unobserved();
    let planned = planned::plan_existing(engine, claim, &options).map_err(|error| error.at(Stage::Plan))?;
    start_planned(engine, planned, None, &options).await
}

/// Starts a machine again that this process owns.
pub(crate) async fn start_again(
    engine: &Engine,
    previous: Record,
    lock: MachineLock,
    size: Option<TerminalSize>,
) -> Result<Running, StartError> {
    let claim = engine.registry().reclaim_own(previous, lock);
    let claim = claim.map_err(|error| StageError::from(error).at(Stage::Plan))?;
    let options = unobserved();
    let planned = planned::plan_existing(engine, claim, &options).map_err(|error| error.at(Stage::Plan))?;
    start_planned(engine, planned, size, &options).await
}

fn unobserved() -> StartOptions {
    StartOptions::new(Arc::new(Quiet))
}

/// Creates a machine without starting it, and returns its record.
///
/// # Errors
/// The error names the stage that failed. Nothing is left behind.
pub async fn create(
    engine: &Engine,
    spec: MachineSpec,
    options: &StartOptions,
) -> Result<Record, StartError> {
    let planned = plan(engine, Start::New(Box::new(spec)), options)?;
    let mut imaged = planned.image(engine, None, options).await.map_err(|error| error.at(Stage::Image))?;
    launched::ensure_disk(engine, &mut imaged.planned.claim).map_err(|error| error.at(Stage::Plan))?;
    volumes::ensure_volumes(engine, &imaged.planned.claim).map_err(|error| error.at(Stage::Plan))?;
    let claim = &mut imaged.planned.claim;
    claim.record.state = State::Created;
    claim.store().map_err(|error| StageError::from(error).at(Stage::Plan))?;
    claim.persist();
    engine.events().record(&claim.record, "create", &[]);
    Ok(claim.record.clone())
}

/// Opens the files of a machine that does not run: restores a guest that has the machine's disk and no container. The
/// machine's state does not change. Call it on a thread that lives as long as the result.
///
/// # Errors
/// The error names the stage that failed. Nothing is left behind.
pub(crate) async fn open_files(engine: &Engine, machine: &MachineId) -> Result<DiskGuest, StartError> {
    match try_open_files(engine, machine).await {
        // As in `start`.
        Err(StartError { source: StageError::Kvm { .. }, .. }) => try_open_files(engine, machine).await,
        done => done,
    }
}

async fn try_open_files(engine: &Engine, machine: &MachineId) -> Result<DiskGuest, StartError> {
    let at_plan = |error: StageError| error.at(Stage::Plan);
    let claim = engine.registry().claim_for_files(machine).map_err(|error| at_plan(error.into()))?;
    let options = unobserved();
    let planned = planned::plan_existing(engine, claim, &options).map_err(at_plan)?;
    answer(engine, planned, None, &options).await?.open_files(engine).await
}

/// Where a volume is mounted whose files are opened without a machine that uses it.
pub(crate) const OPENED_VOLUME: &str = "/volume";

/// Opens the files of a volume that no machine uses: starts a guest for a machine that exists only meanwhile. Call it on
/// a thread that lives as long as the result.
///
/// # Errors
/// The error names the stage that failed. Nothing is left behind.
pub(crate) async fn open_volume(engine: &Engine, volume: &VolumeName) -> Result<DiskGuest, StartError> {
    match try_open_volume(engine, volume).await {
        // As in `start`.
        Err(StartError { source: StageError::Kvm { .. }, .. }) => try_open_volume(engine, volume).await,
        done => done,
    }
}

async fn try_open_volume(engine: &Engine, volume: &VolumeName) -> Result<DiskGuest, StartError> {
    let mount = VolumeMount {
        name: Some(volume.clone()),
        target: OPENED_VOLUME.to_owned(),
        ..VolumeMount::default()
    };
    let spec = MachineSpec { volume_mounts: vec![mount], remove: true, ..MachineSpec::new(String::new()) };
    let planned = planned::plan_new(engine, spec, &unobserved()).map_err(|error| error.at(Stage::Plan))?;
    let imaged = planned.empty_image(engine).map_err(|error| error.at(Stage::Image))?;
    launch_and_answer(engine, imaged).await?.open_files(engine).await
}

fn plan(engine: &Engine, start: Start, options: &StartOptions) -> Result<Planned, StartError> {
    let planned = match start {
        Start::New(spec) => planned::plan_new(engine, *spec, options),
        Start::Existing(id) => match engine.registry().reclaim(&id) {
            Ok(claim) => planned::plan_existing(engine, claim, options),
            Err(error) => Err(error.into()),
        },
    };
    planned.map_err(|error| error.at(Stage::Plan))
}

async fn start_planned(
    engine: &Engine,
    planned: Planned,
    size: Option<TerminalSize>,
    options: &StartOptions,
) -> Result<Running, StartError> {
    answer(engine, planned, size, options).await?.start(engine).await
}

async fn answer(
    engine: &Engine,
    planned: Planned,
    size: Option<TerminalSize>,
    options: &StartOptions,
) -> Result<Answering, StartError> {
    let imaged = planned.image(engine, size, options).await.map_err(|error| error.at(Stage::Image))?;
    launch_and_answer(engine, imaged).await
}

async fn launch_and_answer(engine: &Engine, imaged: Imaged) -> Result<Answering, StartError> {
    let networked = imaged.network().map_err(|error| error.at(Stage::Network))?;
    let launched = networked.launch(engine).await.map_err(|error| error.at(Stage::Launch))?;
    launched.answer(engine).await
}
