//! Stage 6: the container runs.

use jiff::Timestamp;
use mimeo_agent_protocol::link::{Link, Stream};
use mimeo_agent_protocol::message::{Process, Reply, Request};
use mimeo_vmm::Instance;

use super::answering::{Answering, ask, configuration};
use super::scratch::Scratch;
use super::{Stage, StageError, StartError};
use crate::machine::{Claim, HealthSpec, State};
use crate::volume::{self, VolumeServer};

/// A machine whose container runs.
#[derive(Debug)]
pub struct Running {
    /// Its directory and state.
    pub claim: Claim,
    /// The virtual machine.
    pub instance: Box<dyn Instance>,
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
    /// What serves its volumes.
    pub volumes: Vec<VolumeServer>,
}

impl Answering {
    /// Configures the guest and starts the container.
    pub(super) async fn start(self) -> Result<Running, StartError> {
        let Self { mut launched, link } = self;
        let record = &launched.imaged.planned.claim.record;
        if let Err(error) = ask(&link, &Request::Configure(configuration(record))).await {
            return Err(launched.fail(Stage::Configure, error).await);
        }
        launched.imaged.planned.clock.lap("configure");
        let volumes = volume::serve(&link, &launched.imaged.planned.claim.record.spec.volumes).await;
        let volumes = match volumes {
            Ok(volumes) => volumes,
            Err(error) => return Err(launched.fail(Stage::Configure, error.into()).await),
        };
        let container = match start(&link, &launched.imaged.planned.claim.record.process).await {
            Ok(stream) => stream,
            Err(error) => return Err(launched.fail(Stage::Start, error).await),
        };
        launched.imaged.planned.clock.lap("start");
        let (imaged, instance, scratch) = (launched.imaged, launched.instance, launched.scratch);
        let mut claim = imaged.planned.claim;
        claim.record.state = State::Running;
        claim.record.times.started = Some(Timestamp::now());
        claim.record.times.stages = imaged.planned.clock.stages();
        let health = crate::health::of(&claim.record.spec, &imaged.image.config);
        let stop_signal = crate::signal::stop_signal(&claim.record.spec, &imaged.image.config);
        Ok(Running { claim, instance, link, container, health, stop_signal, scratch, volumes })
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
