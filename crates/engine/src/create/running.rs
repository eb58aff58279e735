//! Stage 6: the container runs.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::{Link, Stream};
use mimeo_agent_protocol::message::{Process, Reply, Request};
use mimeo_pager::Pages;
use mimeo_vmm::{Capabilities, DiskOrder, Instance};
use tokio::time::timeout;

use super::answering::{Answering, ask, configuration, died};
use super::launched::{Launched, WARM};
use super::planned::{Planned, Stopwatch};
use super::scratch::Scratch;
use super::{Stage, StageError, StartError};
use crate::Engine;
use crate::hang::HangDump;
use crate::identity;
use crate::machine::{Claim, HealthSpec, Record, State};
use crate::network::Connection;
use mimeo_volume::VolumeServer;

/// A machine whose container runs.
#[derive(Debug)]
pub struct Running {
    // Dropped in this order: the machine ends before its disk and its lock go.
    /// The virtual machine.
    pub instance: Box<dyn Instance>,
    /// Its directory and state.
    pub claim: Claim,
    /// The guest.
    pub link: Link,
    /// The container's own process.
    pub container: Stream,
    /// How to tell whether it is well, from the person or the image.
    pub health: Option<HealthSpec>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// The directory of its sockets.
    pub scratch: Scratch,
    /// What joins it to the network.
    pub connection: Connection,
    /// What serves its volumes.
    pub volumes: Vec<VolumeServer>,
    /// Pages in which the memory that it began with is not its origin's.
    pub besides: Pages,
    /// What its driver can do.
    pub capabilities: Capabilities,
}

impl Answering {
    /// Configures the guest and starts the container.
    pub(super) async fn start(self, engine: &Engine) -> Result<Running, StartError> {
        let Self { mut launched, link } = self;
        let Launched { instance, imaged, .. } = &mut launched;
        let Planned { claim, clock, driver, .. } = &mut imaged.planned;
        let seconds = claim.record.spec.start_timeout;
        let set_up = tokio::select! {
            set_up = timeout(Duration::from_secs(seconds.into()), set_up(&link, &mut claim.record, driver.capabilities().disks, clock)) => {
                set_up.unwrap_or(Err((Stage::Start, StageError::Silent { seconds, dump: HangDump::default() })))
            }
            exit = instance.wait() => Err((Stage::Start, died(&exit))),
        };
        let (volumes, container) = match set_up {
            Ok(done) => done,
            Err((stage, error)) => return Err(launched.fail(engine, stage, error).await),
        };
        Ok(running(launched, link, volumes, container))
    }
}

/// Stage by stage, what makes a guest that answers a container that runs.
async fn set_up(
    link: &Link,
    record: &mut Record,
    disks: DiskOrder,
    clock: &mut Stopwatch,
) -> Result<(Vec<VolumeServer>, Stream), (Stage, StageError)> {
    let configure = |error| (Stage::Configure, error);
    let entropy = |source| (Stage::Configure, StageError::Entropy { source });
    if record.boot_method.as_deref() == Some(WARM) {
        let identity = identity::of(record, false).map_err(entropy)?;
        let told = identity::take_on(link, identity).await;
        record.identity = told.map_err(|error| (Stage::Identify, error))?;
    }
    let configuration = Box::new(configuration(record, disks).map_err(entropy)?);
    ask(link, &Request::Configure(configuration)).await.map_err(configure)?;
    clock.lap("configure");
    let volumes =
        mimeo_volume::serve(link, &record.spec.volumes).await.map_err(|error| configure(error.into()))?;
    let container = start(link, &record.process).await.map_err(|error| (Stage::Start, error))?;
    clock.lap("start");
    Ok((volumes, container))
}

fn running(launched: Launched, link: Link, volumes: Vec<VolumeServer>, container: Stream) -> Running {
    let Launched { instance, imaged, scratch, connection, besides, .. } = launched;
    let Planned { mut claim, clock, driver, .. } = imaged.planned;
    let capabilities = driver.capabilities();
    claim.record.state = State::Running;
    claim.record.times.started = Some(Timestamp::now());
    claim.record.times.stages = clock.stages();
    let health = crate::health::of(&claim.record.spec, &imaged.image.config);
    let stop_signal = crate::signal::stop_signal(&claim.record.spec, &imaged.image.config);
    Running {
        instance,
        claim,
        link,
        container,
        health,
        stop_signal,
        scratch,
        connection,
        volumes,
        besides,
        capabilities,
    }
}

async fn start(link: &Link, process: &Process) -> Result<Stream, StageError> {
    let mut stream = link.open(&Request::Start(process.clone()))?;
    match stream.receiver.message::<Reply>().await? {
        Reply::Started { .. } => Ok(stream),
        Reply::Failed(failure) => Err(failure.into()),
        answer => Err(StageError::Answer { answer: format!("{answer:?}") }),
    }
}
