//! Stages 3 and 4: applies the clone's identity to the guest while its workload is frozen, then thaws the workload.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::{Link, Stream};
use mimeo_agent_protocol::message::{Reply, Request};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::planned::Planned;
use super::publish::publish;
use super::restored::Restored;
use super::warm_up_program::{StillRuns, run_warm_up_program};
use crate::Engine;
use crate::create::{Running, Session, console_tail};
use crate::guest::{self, unix_nanos};
use crate::hang::{HangDump, SilentGuest};
use crate::identity;
use crate::launch_request::{CloneInfo, Release};
use crate::machine::{CloneOverrides, State};
use crate::stage::{Stage, StageError, StartError};

/// How long each warm-up program may run in a clone that waits in a pool.
const POOL_WARM_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// A clone that has its own identity and whose workload is frozen.
#[derive(Debug)]
pub(crate) struct Identified {
    restored: Restored,
    link: Link,
    container: Stream,
    /// Its ports are published already.
    published: bool,
}

impl Restored {
    /// Resumes the guest and applies the clone's identity. The workload stays frozen.
    pub(super) async fn identify(mut self, engine: &Engine) -> Result<Identified, StartError> {
        match self.apply_identity().await {
            Ok((link, container)) => Ok(Identified { restored: self, link, container, published: false }),
            Err((stage, error)) => Err(self.fail(engine, stage, error).await),
        }
    }

    async fn apply_identity(&mut self) -> Result<(Link, Stream), (Stage, StageError)> {
        let Self { vm, planned, .. } = self;
        let seconds = planned.claim.record.spec.start_timeout;
        let channel = vm.instance.take_link().map_err(|error| (Stage::Boot, error.into()))?;
        vm.instance.resume().await.map_err(|error| (Stage::Boot, error.into()))?;
        let session = async {
            let link = hello(channel, planned).await.map_err(|error| (Stage::Boot, error))?;
            planned.stopwatch.lap("answer");
            let identity =
                identity::describe(&planned.claim.record, false).map_err(|error| (Stage::Identify, error))?;
            let container = attach(&link).map_err(|error| (Stage::Identify, error))?;
            planned.claim.record.identity =
                identity::apply(&link, identity).await.map_err(|error| (Stage::Identify, error))?;
            let container = confirm_attached(container).await.map_err(|error| (Stage::Identify, error))?;
            planned.stopwatch.lap("identity");
            Ok((link, container))
        };
        tokio::select! {
            session = timeout(Duration::from_secs(seconds.into()), session) => {
                session.unwrap_or(Err((Stage::Boot, StageError::Silent { seconds, dump: HangDump::default() })))
            }
            exit = vm.instance.wait() => Err((Stage::Boot, StageError::died(&exit))),
        }
    }

    async fn fail(mut self, engine: &Engine, stage: Stage, source: StageError) -> StartError {
        let claim = &self.planned.claim;
        let (id, console) = (claim.record.id.short(), claim.dir.join("console.log"));
        let guest = SilentGuest { instance: self.vm.instance.as_mut(), id, console: &console };
        let source = source.with_evidence(engine.home(), guest).await;
        self.vm.instance.kill().await;
        StartError { stage, source, console: console_tail(&claim.dir) }
    }
}

async fn hello(channel: UnixStream, planned: &Planned) -> Result<Link, StageError> {
    let vm_generation = planned.claim.record.vm_generation.as_deref().unwrap_or_default();
    Ok(guest::connect(channel, identity::session(vm_generation)).await?)
}

/// Requests the container's streams, without waiting for the reply: the identity is applied meanwhile.
fn attach(link: &Link) -> Result<Stream, StageError> {
    Ok(link.open(&Request::Attach)?)
}

/// Waits for the reply to [`attach`].
async fn confirm_attached(mut stream: Stream) -> Result<Stream, StageError> {
    match stream.reply().await? {
        Reply::Started { .. } => Ok(stream),
        Reply::Exited { .. } => Err(StageError::ContainerEnded),
        other => Err(other.unexpected().into()),
    }
}

impl Identified {
    /// What its client is told about the clone.
    pub(crate) fn info(&self) -> CloneInfo {
        let planned = &self.restored.planned;
        CloneInfo::new(&planned.claim.record, planned.stopwatch.clone().stages())
    }

    /// Waits until the VMM has exited, which it should not do. Safe to cancel.
    pub(crate) async fn wait_for_exit(&mut self) {
        self.restored.vm.instance.wait().await;
    }

    /// Runs the warm-up program in the guest, so that the code of its first work is translated already.
    pub(crate) async fn warm_up(&self) {
        if let Err(StillRuns) = run_warm_up_program(&self.link, POOL_WARM_UP_TIMEOUT).await {
            // The clone works all the same; only its first work is slower.
            let machine = &self.restored.planned.claim.record.name;
            tracing::debug!(%machine, "the warm-up program still runs");
        }
    }

    /// Publishes its ports before its fork is decided. A port that cannot be published fails the clone.
    pub(crate) async fn publish(&mut self) -> Result<(), StartError> {
        let Restored { vm, planned, .. } = &mut self.restored;
        if let Some(network) = &mut planned.claim.record.network {
            publish(vm, network).await.map_err(|error| error.at(Stage::Network))?;
        }
        self.published = true;
        Ok(())
    }

    /// Publishes the ports, unless that is done, and thaws the workload.
    pub(crate) async fn thaw(self, engine: &Engine, release: Release) -> Result<Running, StartError> {
        let Self { mut restored, link, container, published } = self;
        let seconds = restored.planned.claim.record.spec.start_timeout;
        let resuming = resume_workload(engine, &mut restored, &link, release, published);
        let outcome = timeout(Duration::from_secs(seconds.into()), resuming).await;
        match outcome
            .unwrap_or(Err((Stage::Identify, StageError::Silent { seconds, dump: HangDump::default() })))
        {
            Ok(()) => Ok(running(restored, link, container)),
            Err((stage, error)) => Err(restored.fail(engine, stage, error).await),
        }
    }
}

async fn resume_workload(
    engine: &Engine,
    restored: &mut Restored,
    link: &Link,
    release: Release,
    published: bool,
) -> Result<(), (Stage, StageError)> {
    let Restored { vm, planned, .. } = restored;
    // The clone may have been held for long.
    planned.stopwatch.skip();
    let changes = changes_of(planned, release);
    let claim = &mut planned.claim;
    let is_claimed = changes.is_some();
    if let Some(overrides) = changes {
        engine.registry().apply_overrides(claim, overrides).map_err(|error| (Stage::Plan, error.into()))?;
    }
    if let Some(network) = claim.record.network.as_mut().filter(|_| !published) {
        let published = publish(vm, network).await;
        published.map_err(|error| (Stage::Network, error))?;
    }
    claim.record.state = State::Running;
    if is_claimed {
        let identity = identity::describe(&claim.record, true).map_err(|error| (Stage::Identify, error))?;
        claim.record.identity =
            identity::apply(link, identity).await.map_err(|error| (Stage::Identify, error))?;
    } else {
        let thaw_failed = |error: StageError| StageError::Identity {
            step: "thaw".to_owned(),
            why: crate::cause::chain(&error),
        };
        thaw(link).await.map_err(|error| (Stage::Identify, thaw_failed(error)))?;
        identity::mark_thawed(&mut claim.record.identity);
    }
    claim.record.times.started = Some(Timestamp::now());
    planned.stopwatch.lap("thaw");
    Ok(())
}

/// The overrides that came with the release. A clone that is released to run on its own is a machine like any other: it
/// belongs to no server, and is started again as its source is.
fn changes_of(planned: &mut Planned, release: Release) -> Option<CloneOverrides> {
    match release {
        Release::Proceed => None,
        Release::ProceedAs(overrides) => Some(overrides),
        Release::ProceedAlone(overrides) => {
            let record = &mut planned.claim.record;
            record.serve = None;
            if !overrides.remove {
                record.spec.restart = planned.source_restart;
            }
            Some(overrides)
        }
    }
}

async fn thaw(link: &Link) -> Result<(), StageError> {
    let thaw = Request::Thaw { unix_nanos: Some(unix_nanos()), advance_nanos: 0, since: None };
    Ok(link.call(&thaw).await?.done()?)
}

fn running(restored: Restored, link: Link, container: Stream) -> Running {
    let Restored { vm, planned } = restored;
    let Planned { mut claim, image, stopwatch, driver, .. } = planned;
    claim.record.times.stages = stopwatch.stages();
    let session = Session { link, container, volumes: Vec::new() };
    Running::new(vm, claim, &image.config, driver.capabilities(), session)
}
