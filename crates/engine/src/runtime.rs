//! Runtime snapshots: guests that have booted and wait for their first work.
//!
//! There is one for each shape of machine, made when it is first needed. A
//! `run` starts a copy of it instead of booting. The disks that the guest saw
//! while it was captured are empty and larger than any real one: a copy gets
//! its own in their place, which nobody has read before.

mod rehearse;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::{self, Link};
use mimeo_agent_protocol::message::{Reply, Request};
use mimeo_pager::Pages;
use mimeo_vmm::accel::Unusable;
use mimeo_vmm::{Disk, DiskFormat, Driver, Instance, LaunchError, LaunchSpec, MemorySave, SavedMachine};
use tokio::time::timeout;

use crate::accelerator::{self, Chosen};
use crate::cause::chain;
use crate::create::{StageError, launched};
use crate::exclusive::exclusive;
use crate::failures::{Failed, Failure, Failures, Known};
use crate::hang::{self, HangDump, SilentGuest};
use crate::io_error::{IoContext, IoError};
use crate::machine::{MachineName, MachineSpec, NetworkMode, Requirements};
use crate::network::{self, Connection};
use crate::order::Retry;
use crate::snapshot::{
    self, Draft, Here, Kind, LoadError, Manifest, STATE, Snapshot, StoreError, TakeError, Taking, VmmSave,
};
use crate::stencil::{self, Lookup, Making, Stencil};
use crate::{Engine, agent, background, driver, identity, working_set};
use mimeo_setup::{Initramfs, Kernel};
use rehearse::Work;

/// The first session of a guest that was booted.
const FIRST_GENERATION: u32 = 1;
/// How long a copy may take to answer, on a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a machine whose link has gone may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Larger than any disk, smaller than the largest file that ext4 takes. The
/// guest believes this size; its filesystem knows the real one.
const PLACEHOLDER_BYTES: u64 = 15 << 40;

/// Why there is no copy of a runtime snapshot.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says it")]
pub enum RuntimeError {
    #[error(transparent)]
    Subnets(#[from] mimeo_net::SubnetsExhausted),
    #[error(transparent)]
    Bridged(#[from] mimeo_net::bridged::BridgedError),
    #[error("the {driver} driver keeps no snapshots")]
    Driver { driver: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error(transparent)]
    Launch(#[from] mimeo_vmm::LaunchError),
    #[error(transparent)]
    Restore(#[from] mimeo_vmm::RestoreError),
    #[error(transparent)]
    Operation(#[from] mimeo_vmm::OperationError),
    #[error("the guest did not answer within {} s{dump}", .waited.as_secs())]
    Silent { waited: Duration, dump: HangDump },
    #[error("the link to the guest failed")]
    Link(#[from] link::LinkError),
    #[error("the guest answered out of turn: {0}")]
    Answer(String),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("it failed a short while ago, and is not tried again before {until:.0}: {reason}")]
    Known { reason: String, until: Timestamp },
    #[error("it failed before, and is tried again in the background: {reason}")]
    Retried { reason: String },
    /// The first guest on this host's KVM did not come up.
    #[error("{why}")]
    Kvm { why: Unusable },
    #[error("the virtual machine ended while it booted: {how}")]
    Died { how: String },
    #[error(transparent)]
    Initramfs(#[from] mimeo_setup::initramfs::InitramfsError),
}

impl RuntimeError {
    /// Whether the guest, not what it needs, is what failed in a boot.
    fn says_guest_did_not_come_up(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Link(_) | Self::Died { .. } => true,
            Self::Launch(error) => matches!(error, LaunchError::Guest { .. }),
            _ => false,
        }
    }

    /// Whether another copy of the same snapshot would fail as well: a host
    /// that is busy or short of something is no fault of the snapshot's.
    fn is_its_own(&self) -> bool {
        matches!(self, Self::Load(_) | Self::Restore(mimeo_vmm::RestoreError::Ended { .. }))
    }
}

/// A copy of a runtime snapshot, which answers.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) link: Link,
    pub(crate) snapshot: Snapshot,
    /// Pages in which the memory that it began with is not the snapshot's.
    pub(crate) besides: Pages,
    /// Why it has no stencil, where it should have one.
    pub(crate) missing: Option<String>,
}

/// What a runtime snapshot is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) kernel: &'a Kernel,
    pub(crate) spec: &'a LaunchSpec,
    pub(crate) requires: &'a Requirements,
    pub(crate) chosen: &'a Chosen,
    /// The machine that needs it.
    pub(crate) machine: &'a MachineSpec,
}

impl Wanted<'_> {
    /// Two wishes with the same key can share a guest.
    fn key(&self) -> MachineName {
        let Requirements { driver, shape, accelerator, cpu, kernel_sha256, agent_blake3, .. } = self.requires;
        let program = self.driver.program().unwrap_or_default();
        let text = format!(
            "{driver}\n{program}\n{shape}\n{accelerator}\n{cpu}\n{kernel_sha256}\n{agent_blake3}\n{}",
            self.spec.command_line
        );
        let digits = blake3::hash(text.as_bytes()).to_hex();
        name(&format!("runtime-{}", &digits[..16]))
    }

    /// What tries again in the background what failed for this machine.
    fn retry(&self) -> Retry {
        Retry::Runtime { spec: Box::new(self.machine.clone()) }
    }

    fn failures(&self, engine: &Engine) -> Failures {
        // Homes may share a run directory, and fail each for itself.
        let home = blake3::hash(engine.home().home().as_os_str().as_encoded_bytes()).to_hex();
        Failures::at(engine.home().run().join(format!("failed-{}-{}.json", self.key(), &home[..8])))
    }
}

fn name(text: &str) -> MachineName {
    text.parse().unwrap_or_else(|_| MachineName::random())
}

/// Starts a copy; makes the runtime snapshot first when there is none. One
/// that turns out to be broken is removed, so that the next run makes it anew.
pub(crate) async fn start(engine: &Engine, wanted: Wanted<'_>) -> Result<Warm, RuntimeError> {
    if !wanted.driver.capabilities().snapshot {
        return Err(RuntimeError::Driver { driver: wanted.driver.name() });
    }
    let failures = wanted.failures(engine);
    match failures.known(Timestamp::now()) {
        Known::Nothing => {}
        Known::Failure(Failure { reason, until, .. }) => return Err(RuntimeError::Known { reason, until }),
        Known::RetryDue(Failure { reason, .. }) => {
            background::start(wanted.retry()).await;
            return Err(RuntimeError::Retried { reason });
        }
    }
    let begun = begin(engine, wanted, Making::Once(wanted.retry())).await;
    match &begun {
        Ok(_) => failures.clear(),
        // Who tried has said it; no fault of the snapshot's: the next start is without KVM.
        Err(RuntimeError::Known { .. } | RuntimeError::Kvm { .. }) => {}
        Err(error) => {
            tracing::warn!(component = "runtime", error = chain(error), "cannot be used; booting cold");
        }
    }
    begun
}

/// Starts a copy of the runtime snapshot, which is made if it is not there. A broken one is removed. A failure is remembered.
async fn begin(engine: &Engine, wanted: Wanted<'_>, making: Making) -> Result<Warm, RuntimeError> {
    let is_again = matches!(making, Making::Again);
    let snapshot = ensure(engine, wanted, is_again).await?;
    let copied = copy(engine, wanted, snapshot.clone(), making).await;
    let Err(error) = &copied else { return copied };
    // On an order that goes against what is known of KVM, that is what failed.
    let is_broken = error.is_its_own() && !wanted.chosen.is_against_verdict();
    if is_broken {
        let id = snapshot.manifest.id.short();
        match snapshot::discard(engine, &snapshot) {
            Ok(_) => tracing::warn!(component = "runtime", snapshot = id, "removed: it cannot be restored"),
            Err(error) => {
                tracing::warn!(
                    component = "runtime",
                    snapshot = id,
                    error = chain(&error),
                    "cannot be removed"
                );
            }
        }
    }
    let is_killed = matches!(error, RuntimeError::Restore(mimeo_vmm::RestoreError::Killed { .. }));
    let failed = if is_broken || is_killed { Failed::Passing } else { Failed::Lasting };
    remember(engine, wanted, failed, error, is_again);
    copied
}

/// Remembers a failure, unless that of somebody who would not wait.
fn remember(engine: &Engine, wanted: Wanted<'_>, failed: Failed, error: &RuntimeError, is_again: bool) {
    let is_hasty = wanted.machine.start_timeout < MachineSpec::new(String::new()).start_timeout;
    match error {
        RuntimeError::Kvm { .. } | RuntimeError::Known { .. } => {}
        RuntimeError::Silent { .. } if is_hasty => {}
        error if is_again => wanted.failures(engine).add_retried(chain(error), Timestamp::now()),
        error => drop(wanted.failures(engine).add(failed, chain(error), Timestamp::now())),
    }
}

/// Tries again what machines like `requested` could not be started from: the runtime snapshot, a copy of it, its stencil.
///
/// # Errors
/// When it fails once more, which is remembered.
pub(crate) async fn retry(engine: &Engine, requested: &MachineSpec) -> Result<(), StageError> {
    let patient = requested.start_timeout.max(MachineSpec::new(String::new()).start_timeout);
    let guest = Guest::like(engine, &MachineSpec { start_timeout: patient, ..requested.clone() })?;
    try_out(engine, guest.wanted()).await.map_err(|error| StageError::Runtime(Box::new(error)))?;
    guest.wanted().failures(engine).clear();
    Ok(())
}

/// Starts a machine that nobody uses, and ends it.
async fn try_out(engine: &Engine, wanted: Wanted<'_>) -> Result<(), RuntimeError> {
    let (_scratch, spec) = placeholder_spec(engine, wanted)?;
    let mut warm = begin(engine, Wanted { spec: &spec, ..wanted }, Making::Again).await?;
    warm.instance.kill().await;
    Ok(())
}

/// Makes the runtime snapshot for machines like `requested`, if there is none.
///
/// # Errors
/// When a guest of that shape cannot be booted and kept here.
pub async fn prepare(engine: &Engine, requested: &MachineSpec) -> Result<Snapshot, StageError> {
    let guest = Guest::like(engine, requested)?;
    match ensure(engine, guest.wanted(), true).await {
        // It was the first guest on this host's KVM: the next is emulated, or another driver's.
        Err(RuntimeError::Kvm { .. }) => Box::pin(prepare(engine, requested)).await,
        Err(error) => Err(StageError::Runtime(Box::new(error))),
        Ok(snapshot) => {
            guest.wanted().failures(engine).clear();
            Ok(snapshot)
        }
    }
}

/// A guest of machines like one that is asked for.
struct Guest {
    driver: Arc<dyn Driver>,
    kernel: Kernel,
    chosen: Chosen,
    spec: LaunchSpec,
    requires: Requirements,
    machine: MachineSpec,
}

impl Guest {
    fn like(engine: &Engine, requested: &MachineSpec) -> Result<Self, StageError> {
        let mut machine = requested.clone();
        let driver = driver::settle(engine, &mut machine)?;
        let kernel = Kernel::load(engine.home().home())?;
        let chosen = accelerator::choose(engine.home(), machine.accelerator, driver.as_ref(), &kernel);
        chosen.warn();
        let shape = launched::shape(engine.home(), &kernel, &machine, chosen.accelerator);
        // Who makes the snapshot sees that its guest has one.
        let network = (machine.network != NetworkMode::None).then(network::of_nobody).transpose()?;
        let spec = LaunchSpec { network, ..shape };
        let requires = launched::requires(driver.as_ref(), &kernel, &spec);
        Ok(Self { driver, kernel, chosen, spec, requires, machine })
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            driver: self.driver.as_ref(),
            kernel: &self.kernel,
            spec: &self.spec,
            requires: &self.requires,
            chosen: &self.chosen,
            machine: &self.machine,
        }
    }
}

/// The runtime snapshot for a wish, made now if it is not there; also where that failed before, if it is tried again.
async fn ensure(engine: &Engine, wanted: Wanted<'_>, is_again: bool) -> Result<Snapshot, RuntimeError> {
    let store = engine.snapshots();
    let key = wanted.key();
    if let Some(found) = store.runtime(key.as_str())? {
        return Ok(found);
    }
    // Of several who need it at once, one makes it and the others wait.
    let _building = lock(engine.home().snapshots().join(format!(".building-{key}"))).await?;
    if let Some(found) = store.runtime(key.as_str())? {
        return Ok(found);
    }
    // One who waited does not pay for the failure of who had the lock.
    let failed = wanted.failures(engine).holding(Timestamp::now());
    if let Some(Failure { reason, until, .. }) = failed.filter(|_| !is_again) {
        return Err(RuntimeError::Known { reason, until });
    }
    // One that was damaged so that it cannot be read would be told of for ever.
    snapshot::discard_damaged(&store, key.as_str())?;
    let built = build(engine, wanted, key).await;
    built.inspect_err(|error| remember(engine, wanted, Failed::Lasting, error, is_again))
}

async fn lock(path: PathBuf) -> Result<File, RuntimeError> {
    Ok(exclusive(&path).await.at("lock", &path)?)
}

/// Boots a guest, has it hold still, and keeps it.
async fn build(engine: &Engine, wanted: Wanted<'_>, key: MachineName) -> Result<Snapshot, RuntimeError> {
    let store = engine.snapshots();
    let (_scratch, spec) = placeholder_spec(engine, wanted)?;
    let initramfs = Initramfs::ensure(wanted.kernel, agent::BYTES)?;
    let spec = LaunchSpec { initramfs: initramfs.path.clone(), ..spec };
    let (mut instance, link) = boot(engine, wanted, &spec).await?;
    let mut taking = match wanted.driver.capabilities().memory {
        MemorySave::Reader => Taking::prepare(&store, instance.memory()?, Pages::default()).await?,
        MemorySave::Monitor => Taking::by_vmm(&store, VmmSave::whole())?,
    };
    let (mut stream, hold) = link.open_and_hold(&Request::Freeze)?;
    let answer = timeout(PATIENCE, stream.receiver.message::<Reply>()).await;
    let Ok(answer) = answer else { return Err(silent(engine, instance.as_mut(), &spec, PATIENCE).await) };
    match answer? {
        Reply::Frozen { .. } => {}
        answer => return Err(RuntimeError::Answer(format!("{answer:?}"))),
    }
    instance.pause().await?;
    taking.take(instance.as_mut()).await?;
    let version = instance.version().await?;
    instance.kill().await;
    drop((hold, link));
    let taken = taking.finish(true).await?;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        id: taken.draft.id.clone(),
        tag: Some(key),
        kind: Kind::Runtime,
        created: jiff::Timestamp::now(),
        parent: None,
        machine: None,
        requires: Requirements { version, ..wanted.requires.clone() },
        disk_layers: 0,
        memory_bytes: taken.memory_bytes,
        boot_id: crate::machine::boot_id(),
        pause_micros: 0,
        files: taken.files,
    };
    taken.draft.commit(&manifest)?;
    let snapshot = store.read(&manifest.id)?;
    snapshot::trust(&store, &snapshot);
    Ok(snapshot)
}

/// A guest whose disks and network nobody uses, and what is removed after it.
fn placeholder_spec(
    engine: &Engine,
    wanted: Wanted<'_>,
) -> Result<((Draft, Connection), LaunchSpec), RuntimeError> {
    // Like a machine's own directory it may hold a jail, which a run directory's filesystem (nodev, noexec) cannot.
    let scratch = Draft::begin(&engine.snapshots())?;
    let connection = match wanted.spec.network {
        Some(_) => Connection::nobodys(wanted.driver, &scratch.dir)?,
        None => Connection::default(),
    };
    let disks = wanted.spec.disks.iter().map(|disk| placeholder(disk, &scratch.dir));
    let spec = LaunchSpec {
        name: wanted.key().to_string(),
        disks: disks.collect::<Result<_, _>>()?,
        console: scratch.dir.join("console.log"),
        network: wanted.spec.network.as_ref().map(|_| connection.network_of_nobody()).transpose()?,
        ..wanted.spec.clone()
    };
    Ok(((scratch, connection), spec))
}

/// Boots a guest until its agent answers, which is the proof of KVM where none was made yet.
async fn boot(
    engine: &Engine,
    wanted: Wanted<'_>,
    spec: &LaunchSpec,
) -> Result<(Box<dyn Instance>, Link), RuntimeError> {
    let Wanted { driver, chosen, machine, .. } = wanted;
    let booted = async {
        let mut instance = driver.launch(spec).await?;
        let patience = chosen.boot_timeout(Duration::from_secs(machine.start_timeout.into()));
        let link = hello(engine, instance.as_mut(), spec, FIRST_GENERATION, patience).await?;
        Ok::<_, RuntimeError>((instance, link))
    };
    match booted.await {
        Ok(booted) => {
            chosen.guest_answered(engine.home());
            Ok(booted)
        }
        Err(error) if chosen.is_trial() && error.says_guest_did_not_come_up() => {
            Err(RuntimeError::Kvm { why: chosen.guest_failed(engine.home(), chain(&error)) })
        }
        Err(error) => Err(error),
    }
}

fn placeholder(disk: &Disk, scratch: &Path) -> Result<Disk, RuntimeError> {
    let path = scratch.join(&disk.serial);
    let made = File::create(&path).and_then(|file| file.set_len(PLACEHOLDER_BYTES));
    made.at("make", &path)?;
    Ok(Disk { path, format: DiskFormat::Raw, ..disk.clone() })
}

async fn copy(
    engine: &Engine,
    wanted: Wanted<'_>,
    snapshot: Snapshot,
    making: Making,
) -> Result<Warm, RuntimeError> {
    let store = engine.snapshots();
    let here = Here {
        driver: wanted.driver.name().to_owned(),
        shape: wanted.requires.shape.clone(),
        accelerator: wanted.spec.accelerator,
    };
    snapshot::judge(&snapshot.manifest.requires, &here)?;
    snapshot::verify(&store, &snapshot)?;
    let memory = snapshot::flat(&store, &snapshot)?;
    let Wanted { driver, spec, .. } = wanted;
    let work = Work::like(&snapshot, spec);
    let begins = stencil::Wanted { driver, snapshot: &snapshot, memory: &memory, spec };
    let Lookup { stencil, mut missing } = stencil::of(&store, begins, making, work).await;
    let mapped = stencil.as_ref().map_or(&memory, |stencil| &stencil.process.memory);
    working_set::read_ahead(&store, &snapshot, mapped);
    let (mut instance, besides) = restore(wanted, &snapshot, memory, stencil, &mut missing).await?;
    snapshot::judge_version(&snapshot.manifest.requires, &instance.version().await?)?;
    instance.resume().await?;
    let session = identity::session(&identity::generation());
    let link = hello(engine, instance.as_mut(), spec, session, PATIENCE).await?;
    wanted.chosen.guest_answered(engine.home());
    Ok(Warm { instance, link, snapshot, besides, missing })
}

/// Starts it as the stencil, or, where there is none, with the saved state.
async fn restore(
    wanted: Wanted<'_>,
    snapshot: &Snapshot,
    memory: PathBuf,
    stencil: Option<Stencil>,
    missing: &mut Option<String>,
) -> Result<(Box<dyn Instance>, Pages), RuntimeError> {
    if let Some(stencil) = stencil {
        match wanted.driver.revive(wanted.spec, &stencil.process).await {
            Ok(instance) => {
                stencil.was_restored();
                return Ok((instance, stencil.besides));
            }
            Err(error) => *missing = Some(stencil.give_up(error)?),
        }
    }
    let saved = SavedMachine { state: snapshot.dir.join(STATE), memory, pager: None };
    Ok((wanted.driver.restore(wanted.spec, &saved).await?, Pages::default()))
}

async fn hello(
    engine: &Engine,
    instance: &mut dyn Instance,
    spec: &LaunchSpec,
    generation: u32,
    patience: Duration,
) -> Result<Link, RuntimeError> {
    let (reader, writer) = instance.take_link()?.into_split();
    let hello = link::connect(reader, writer, generation, concat!("mimeo ", env!("CARGO_PKG_VERSION")));
    let answered = tokio::select! {
        answered = timeout(patience, hello) => answered,
        exit = instance.wait() => return Err(RuntimeError::Died { how: exit.to_string() }),
    };
    match answered {
        Ok(Ok((link, _))) => Ok(link),
        // Most often the link is gone since the machine is: then that is the reason.
        Ok(Err(error)) => match timeout(EXIT_TIMEOUT, instance.wait()).await {
            Ok(exit) => Err(RuntimeError::Died { how: exit.to_string() }),
            Err(_) => Err(error.into()),
        },
        Err(_) => Err(silent(engine, instance, spec, patience).await),
    }
}

/// The error of a guest that does not answer, with the evidence of it.
async fn silent(
    engine: &Engine,
    instance: &mut dyn Instance,
    spec: &LaunchSpec,
    waited: Duration,
) -> RuntimeError {
    let guest = SilentGuest { instance, id: &spec.name, console: &spec.console };
    let what = format!("the first answer, for {} s", waited.as_secs());
    RuntimeError::Silent { waited, dump: hang::dump(engine.home(), guest, &what).await }
}

/// Whether a `run` on this host may still start copies of it: its agent and
/// its monitor are the ones that are used here now.
pub(crate) fn is_current(engine: &Engine, snapshot: &Snapshot) -> bool {
    if engine.snapshots().is_retired(&snapshot.manifest.id) {
        return false;
    }
    let requires = &snapshot.manifest.requires;
    let kernel = Kernel::load(engine.home().home()).map(|kernel| kernel.manifest.image.sha256);
    requires.agent_blake3 == agent::digest() && kernel.is_ok_and(|kernel| kernel == requires.kernel_sha256)
}
