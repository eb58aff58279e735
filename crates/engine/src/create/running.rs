//! Stage 6: configures the guest and starts the container.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::{Link, Stream};
use mimeo_agent_protocol::message::{ContainerSetup, Process, Reply, Request};
use mimeo_image::ImageConfig;
use mimeo_pager::Pages;
use mimeo_vmm::{Capabilities, DiskIdentification, Instance};
use mimeo_volume::VolumeServer;
use tokio::time::timeout;

use super::answering::Answering;
use super::launched::Launched;
use super::mounts::mount_volumes;
use super::planned::{Planned, Stopwatch};
use super::scratch::Scratch;
use crate::Engine;
use crate::guest::{configuration, container_setup};
use crate::hang::HangDump;
use crate::identity;
use crate::machine::{BOOTED_WARM, Claim, HealthSpec, Record, State};
use crate::network::Connection;
use crate::signal;
use crate::stage::{Stage, StageError, StartError};

/// A virtual machine and the host resources that it uses.
#[derive(Debug)]
pub(crate) struct Vm {
    // Dropped in this order: the VMM exits before its sockets and its network are removed.
    pub(crate) instance: Box<dyn Instance>,
    /// The directory of its sockets.
    pub(crate) scratch: Scratch,
    /// Its connection to the network.
    pub(crate) connection: Connection,
    /// Pages whose contents at the start differ from its origin's memory.
    pub(crate) divergent_pages: Pages,
}

/// A machine whose container runs.
#[derive(Debug)]
pub struct Running {
    /// The machine.
    pub(crate) guest: Guest,
    /// The stream of the container's process.
    pub(crate) container: Stream,
    /// The health check, from the spec or the image.
    pub(crate) health: Option<HealthSpec>,
}

/// A running machine and all resources that are released with it.
#[derive(Debug)]
pub(crate) struct Guest {
    // Dropped in this order: the VMM exits before its network, its disk and its lock are released.
    /// The virtual machine.
    pub(crate) instance: Box<dyn Instance>,
    /// Its connection to the network.
    pub(crate) connection: Connection,
    /// The directory of its sockets.
    pub(crate) scratch: Scratch,
    /// The servers of its volumes.
    pub(crate) volumes: Vec<VolumeServer>,
    /// Its directory and state.
    pub(crate) claim: Claim,
    /// The session with its agent.
    pub(crate) link: Link,
    /// The signal that `stop` sends to the container first.
    pub(crate) stop_signal: i32,
    /// Its driver's capabilities.
    pub(crate) capabilities: Capabilities,
    /// Pages whose contents at the start differ from its origin's memory.
    pub(crate) divergent_pages: Pages,
}

impl Running {
    /// Assembles the running machine from what a start or a clone has made.
    pub(crate) fn new(
        vm: Vm,
        claim: Claim,
        image: &ImageConfig,
        capabilities: Capabilities,
        session: Session,
    ) -> Self {
        let Vm { instance, scratch, connection, divergent_pages } = vm;
        let Session { link, container, volumes } = session;
        let health = crate::health::effective_health(&claim.record.spec, image);
        // The stages before have resolved it, and refused an unknown one.
        let stop_signal = claim.record.spec.stop_signal.unwrap_or(signal::SIGTERM);
        let guest = Guest {
            instance,
            connection,
            scratch,
            volumes,
            claim,
            link,
            stop_signal,
            capabilities,
            divergent_pages,
        };
        Self { guest, container, health }
    }
}

/// The session with the agent, and the streams in it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) container: Stream,
    pub(crate) volumes: Vec<VolumeServer>,
}

impl Answering {
    /// Configures the guest and starts the container.
    pub(super) async fn start(self, engine: &Engine) -> Result<Running, StartError> {
        let Self { mut launched, link } = self;
        let Launched { vm, imaged, .. } = &mut launched;
        let Planned { claim, stopwatch, driver, .. } = &mut imaged.planned;
        let seconds = claim.record.spec.start_timeout;
        let set_up = tokio::select! {
            set_up = timeout(Duration::from_secs(seconds.into()), set_up(&link, &mut claim.record, &imaged.config, driver.capabilities().disks, stopwatch)) => {
                set_up.unwrap_or(Err((Stage::Start, StageError::Silent { seconds, dump: HangDump::default() })))
            }
            exit = vm.instance.wait() => Err((Stage::Start, StageError::died(&exit))),
        };
        let (volumes, container) = match set_up {
            Ok(done) => done,
            Err((stage, error)) => return Err(launched.fail(engine, stage, error).await),
        };
        Ok(running(launched, Session { link, container, volumes }))
    }
}

/// Configures a guest that has answered, serves its volumes and starts its container.
async fn set_up(
    link: &Link,
    record: &mut Record,
    image: &ImageConfig,
    disks: DiskIdentification,
    stopwatch: &mut Stopwatch,
) -> Result<(Vec<VolumeServer>, Stream), (Stage, StageError)> {
    let setup = container_setup(&record.spec, image).map_err(|error| (Stage::Configure, error))?;
    let volumes = configure(link, record, image, disks, setup, stopwatch).await?;
    let container = start_container(link, &record.process).await.map_err(|error| (Stage::Start, error))?;
    stopwatch.lap("start");
    Ok((volumes, container))
}

/// Configures a guest that has answered, and mounts its volumes.
pub(super) async fn configure(
    link: &Link,
    record: &mut Record,
    image: &ImageConfig,
    disks: DiskIdentification,
    setup: ContainerSetup,
    stopwatch: &mut Stopwatch,
) -> Result<Vec<VolumeServer>, (Stage, StageError)> {
    let configure = |error| (Stage::Configure, error);
    if record.boot_method.as_deref() == Some(BOOTED_WARM) {
        let identity = identity::describe(record, false).map_err(configure)?;
        let steps = identity::apply(link, identity).await;
        record.identity = steps.map_err(|error| (Stage::Identify, error))?;
    }
    let configuration = Box::new(configuration(record, disks, setup).map_err(configure)?);
    let configured = link.call(&Request::Configure(configuration)).await;
    configured.and_then(Reply::done).map_err(|error| configure(error.into()))?;
    stopwatch.lap("configure");
    mount_volumes(link, record, image, disks).await.map_err(configure)
}

fn running(launched: Launched, session: Session) -> Running {
    let Launched { vm, imaged, .. } = launched;
    let config = imaged.config;
    let Planned { mut claim, stopwatch, driver, .. } = imaged.planned;
    claim.record.state = State::Running;
    claim.record.times.started = Some(Timestamp::now());
    claim.record.times.stages = stopwatch.stages();
    Running::new(vm, claim, &config, driver.capabilities(), session)
}

async fn start_container(link: &Link, process: &Process) -> Result<Stream, StageError> {
    let mut stream = link.open(&Request::Start(process.clone()))?;
    match stream.reply().await? {
        Reply::Started { .. } => Ok(stream),
        other => Err(other.unexpected().into()),
    }
}
