//! Stage 3: the guest is the copy, and its workload stands still; and the
//! last, in which it goes on.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::{Link, Stream};
use mimeo_agent_protocol::message::{Reply, Request};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::planned::Planned;
use super::publish::publish;
use super::restored::Restored;
use super::warm_up_program::run_warm_up_program;
use crate::Engine;
use crate::create::{Running, Session, console_tail};
use crate::guest::{self, unix_nanos};
use crate::hang::{HangDump, SilentGuest};
use crate::identity;
use crate::launch_request::CloneInfo;
use crate::machine::{CloneOverrides, State};
use crate::stage::{Stage, StageError, StartError};

/// How long a clone of a pool may take for each program that it runs for nothing.
const POOL_WARM_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// A copy that is itself.
#[derive(Debug)]
pub(crate) struct Identified {
    restored: Restored,
    link: Link,
    container: Stream,
    /// Its ports are open already.
    published: bool,
}

impl Restored {
    /// Lets the guest go on, makes it the copy, and leaves its workload frozen.
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
            planned.clock.lap("answer");
            let identity = identity::describe(&planned.claim.record, false)
                .map_err(|source| (Stage::Identify, StageError::Entropy { source }))?;
            let container = attach(&link).map_err(|error| (Stage::Identify, error))?;
            planned.claim.record.identity =
                identity::apply(&link, identity).await.map_err(|error| (Stage::Identify, error))?;
            let container = confirm_attached(container).await.map_err(|error| (Stage::Identify, error))?;
            planned.clock.lap("identity");
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

/// The container's streams, asked for before the identity, to lose no time.
fn attach(link: &Link) -> Result<Stream, StageError> {
    Ok(link.open(&Request::Attach)?)
}

async fn confirm_attached(mut stream: Stream) -> Result<Stream, StageError> {
    match stream.reply().await? {
        Reply::Started { .. } => Ok(stream),
        Reply::Exited { .. } => Err(StageError::ContainerEnded),
        other => Err(other.unexpected().into()),
    }
}

impl Identified {
    /// What the copy is.
    pub(crate) fn info(&self) -> CloneInfo {
        let planned = &self.restored.planned;
        CloneInfo::new(&planned.claim.record, planned.clock.clone().stages())
    }

    /// Waits until the virtual machine has ended, which it should not. Safe to cancel.
    pub(crate) async fn ended(&mut self) {
        self.restored.vm.instance.wait().await;
    }

    /// Has the guest do once what its first work will do.
    pub(crate) async fn warm(&self) {
        // A clone whose program still runs is as good as any: it is only not as fast.
        run_warm_up_program(&self.link, POOL_WARM_UP_TIMEOUT).await.ok();
    }

    /// Publishes its ports before it is decided whether it goes on: one that
    /// cannot is the end of it.
    pub(crate) async fn publish(&mut self) -> Result<(), StartError> {
        let Restored { vm, planned, .. } = &mut self.restored;
        if let Some(network) = &mut planned.claim.record.network {
            publish(vm, network).await.map_err(|error| error.at(Stage::Network))?;
        }
        self.published = true;
        Ok(())
    }

    /// Publishes the ports, if that was not done, and lets the workload go on.
    pub(crate) async fn thaw(
        self,
        engine: &Engine,
        changes: Option<CloneOverrides>,
    ) -> Result<Running, StartError> {
        let Self { mut restored, link, container, published } = self;
        let seconds = restored.planned.claim.record.spec.start_timeout;
        let resuming = resume_workload(engine, &mut restored, &link, changes, published);
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
    changes: Option<CloneOverrides>,
    published: bool,
) -> Result<(), (Stage, StageError)> {
    let Restored { vm, planned, .. } = restored;
    // It may have waited long.
    planned.clock.skip();
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
        let identity = identity::describe(&claim.record, true)
            .map_err(|source| (Stage::Identify, StageError::Entropy { source }))?;
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
    planned.clock.lap("thaw");
    Ok(())
}

async fn thaw(link: &Link) -> Result<(), StageError> {
    let thaw = Request::Thaw { unix_nanos: Some(unix_nanos()), advance_nanos: 0, since: None };
    Ok(link.call(&thaw).await?.done()?)
}

fn running(restored: Restored, link: Link, container: Stream) -> Running {
    let Restored { vm, planned } = restored;
    let Planned { mut claim, image, clock, driver, .. } = planned;
    claim.record.times.stages = clock.stages();
    let session = Session { link, container, volumes: Vec::new() };
    Running::new(vm, claim, &image.config, driver.capabilities(), session)
}
