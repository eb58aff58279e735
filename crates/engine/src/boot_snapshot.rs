//! Boot snapshots: guests that have booted and wait for their first work.
//!
//! There is one for each guest configuration, built when it is first needed. `run` restores a guest from it instead of
//! booting. The guest's disks at the time of the snapshot are empty placeholders, larger than any real disk. A restored
//! guest has its own disks in their place, of which it has not read anything yet.

mod build;
mod rebuild;
mod restore;
mod warm_up;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::Link;
use mimeo_pager::Pages;
use mimeo_setup::Kernel;
use mimeo_vmm::{Driver, Instance, LaunchSpec, RestoreError};

use crate::accelerator::{self, AcceleratorChoice};
use crate::cause::chain;
use crate::exclusive::lock_exclusive;
use crate::failures::{Failure, FailureKind, Failures, RetryState};
use crate::io_error::IoContext;
use crate::launch_request::{Retry, StartFailureKind};
use crate::launch_spec::{requires, shape};
use crate::machine::{MachineName, MachineSpec, NetworkMode, Requirements};
use crate::snapshot::{self, Snapshot};
use crate::stage::StageError;
use crate::stencil::{self, BuildPolicy};
use crate::{Engine, agent, background, driver, network};
pub use rebuild::{machine_for, rebuild};

/// Guest memory from which a boot is noticeably slow: with 8 GiB, its snapshot takes ten seconds under emulation.
const LARGE_MEMORY_MIB: u32 = 4096;
/// How long a restored guest may take to answer. It allows for a very busy host.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the VMM may take to exit after its link has closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Size of the placeholder disks: larger than any disk, smaller than the largest file on ext4. The guest's kernel
/// keeps this size for the block device; the filesystem on it has the real one.
const PLACEHOLDER_BYTES: u64 = 15 << 40;

/// Why no guest was restored from a boot snapshot.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says it")]
pub enum BootSnapshotError {
    #[error("the {driver} driver takes no snapshots")]
    NoSnapshots { driver: &'static str },
    #[error(
        "no boot snapshot could be made or restored recently, and it is not retried before {until:.0}: {reason}"
    )]
    FailedRecently { reason: String, until: Timestamp },
    #[error(
        "no boot snapshot could be made or restored before, and it is retried in the background: {reason}"
    )]
    RetryPending { reason: String },
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl BootSnapshotError {
    /// Returns what kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StartFailureKind {
        match self {
            Self::NoSnapshots { .. } => StartFailureKind::Unsupported,
            Self::FailedRecently { .. } | Self::RetryPending { .. } => StartFailureKind::Other,
            Self::Stage(error) => error.kind(),
        }
    }

    /// Whether KVM failed its first guest: the next start does without KVM.
    fn is_kvm(&self) -> bool {
        matches!(self, Self::Stage(StageError::Kvm { .. }))
    }

    /// Whether every later restore from the same snapshot would fail as well. A host that is busy or
    /// short of memory says nothing about the snapshot.
    fn is_broken_snapshot(&self) -> bool {
        let Self::Stage(error) = self else { return false };
        matches!(error, StageError::SnapshotLoad(_) | StageError::Restore(RestoreError::Ended { .. }))
    }
}

/// A guest that was restored from a boot snapshot and has answered.
#[derive(Debug)]
pub(crate) struct WarmGuest {
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) link: Link,
    pub(crate) snapshot: Snapshot,
    /// Pages whose contents at the start differ from the snapshot's memory.
    pub(crate) divergent_pages: Pages,
    /// Why it was restored without a stencil, if it should have one.
    pub(crate) missing: Option<String>,
}

/// The guest that a boot snapshot is needed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuestRequest<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) kernel: &'a Kernel,
    pub(crate) spec: &'a LaunchSpec,
    pub(crate) requires: &'a Requirements,
    pub(crate) chosen: &'a AcceleratorChoice,
    /// The machine that needs it.
    pub(crate) machine: &'a MachineSpec,
}

impl GuestRequest<'_> {
    /// The snapshot's tag. Requests with the same key can share a snapshot.
    fn key(&self) -> MachineName {
        let Requirements { driver, shape, accelerator, cpu, kernel_sha256, agent_blake3, .. } = self.requires;
        let program = self.driver.program().unwrap_or_default();
        let text = format!(
            "{driver}\n{program}\n{shape}\n{accelerator}\n{cpu}\n{kernel_sha256}\n{agent_blake3}\n{}",
            self.spec.command_line
        );
        let digits = blake3::hash(text.as_bytes()).to_hex();
        parse_name(&format!("runtime-{}", &digits[..16]))
    }

    /// The retry that runs in the background after a failure for this machine.
    fn retry(&self) -> Retry {
        Retry::Runtime { spec: Box::new(self.machine.clone()) }
    }

    fn failures(&self, engine: &Engine) -> Failures {
        // Homes may share a run directory, but their failures are independent.
        let home = blake3::hash(engine.home().home().as_os_str().as_encoded_bytes()).to_hex();
        Failures::new(engine.home().run().join(format!("failed-{}-{}.json", self.key(), &home[..8])))
    }
}

fn parse_name(text: &str) -> MachineName {
    text.parse().unwrap_or_else(|_| MachineName::random())
}

/// Restores a guest from its boot snapshot, which is built first if it is missing. After a recent failure nothing is
/// tried; once the retry delay is over, a background process retries.
pub(crate) async fn start(
    engine: &Engine,
    request: GuestRequest<'_>,
) -> Result<WarmGuest, BootSnapshotError> {
    if !request.driver.capabilities().snapshot {
        return Err(BootSnapshotError::NoSnapshots { driver: request.driver.name() });
    }
    let failures = request.failures(engine);
    match failures.retry_state(Timestamp::now()) {
        RetryState::Untried => {}
        RetryState::Waiting(Failure { reason, until, .. }) => {
            return Err(BootSnapshotError::FailedRecently { reason, until });
        }
        RetryState::RetryDue(Failure { reason, .. }) => {
            background::start_retry(request.retry()).await;
            return Err(BootSnapshotError::RetryPending { reason });
        }
    }
    let started = restore_or_build(engine, request, BuildPolicy::UnlessFailed(request.retry())).await;
    match &started {
        Ok(_) => failures.clear(),
        // The process that tried has logged it.
        Err(BootSnapshotError::FailedRecently { .. }) => {}
        // The next start does without KVM; the snapshot is not at fault.
        Err(error) if error.is_kvm() => {}
        Err(error) => {
            tracing::warn!(
                component = "boot_snapshot",
                error = chain(error),
                "cannot use the boot snapshot, booting cold"
            );
        }
    }
    started
}

/// Restores a guest from its boot snapshot, which is built first if it is missing. A broken snapshot is removed, so
/// that the next run rebuilds it. Failures are recorded.
async fn restore_or_build(
    engine: &Engine,
    request: GuestRequest<'_>,
    policy: BuildPolicy,
) -> Result<WarmGuest, BootSnapshotError> {
    let is_retry = matches!(policy, BuildPolicy::Always);
    let snapshot = find_or_build(engine, request, is_retry).await?;
    let restored =
        restore::restore(engine, request, snapshot.clone(), policy).await.map_err(BootSnapshotError::from);
    let Err(error) = &restored else { return restored };
    // If KVM is used although it is not known to work, KVM is at fault, not the snapshot.
    let is_broken = error.is_broken_snapshot() && !request.chosen.is_against_verdict();
    if is_broken {
        let id = snapshot.manifest.id.short();
        match stencil::discard_snapshot(&engine.snapshots(), &engine.registry(), &snapshot) {
            Ok(()) => tracing::warn!(
                component = "boot_snapshot",
                snapshot = id,
                "removed a boot snapshot that cannot be restored"
            ),
            Err(error) => {
                tracing::warn!(
                    component = "boot_snapshot",
                    snapshot = id,
                    error = chain(&error),
                    "cannot remove a broken boot snapshot"
                );
            }
        }
    }
    let is_killed =
        matches!(error, BootSnapshotError::Stage(StageError::Restore(RestoreError::Killed { .. })));
    let failed = if is_broken || is_killed { FailureKind::Transient } else { FailureKind::Persistent };
    remember(engine, request, failed, error, is_retry);
    restored
}

/// Records a failure, except a timeout of a machine whose start timeout is shorter than the default.
fn remember(
    engine: &Engine,
    request: GuestRequest<'_>,
    failed: FailureKind,
    error: &BootSnapshotError,
    is_retry: bool,
) {
    let has_short_timeout = request.machine.start_timeout < MachineSpec::new(String::new()).start_timeout;
    match error {
        error if error.is_kvm() => {}
        BootSnapshotError::FailedRecently { .. } => {}
        BootSnapshotError::Stage(StageError::Silent { .. } | StageError::SilentRestore { .. })
            if has_short_timeout => {}
        error if is_retry => request.failures(engine).record_retry(chain(error), Timestamp::now()),
        error => {
            request.failures(engine).record(failed, chain(error), Timestamp::now());
        }
    }
}

/// Retries what failed for machines like `requested`: building the boot snapshot, restoring from it, or building its
/// stencil.
///
/// # Errors
/// If it fails again. The failure is recorded.
pub(crate) async fn retry(engine: &Engine, requested: &MachineSpec) -> Result<(), BootSnapshotError> {
    let start_timeout = requested.start_timeout.max(MachineSpec::new(String::new()).start_timeout);
    let guest = ResolvedRequest::resolve(engine, &MachineSpec { start_timeout, ..requested.clone() })?;
    try_restore(engine, guest.request()).await?;
    guest.request().failures(engine).clear();
    Ok(())
}

/// Restores a guest with placeholder disks and network, and kills it.
async fn try_restore(engine: &Engine, request: GuestRequest<'_>) -> Result<(), BootSnapshotError> {
    let (_scratch, spec) = build::placeholder_spec(engine, request)?;
    let mut warm =
        restore_or_build(engine, GuestRequest { spec: &spec, ..request }, BuildPolicy::Always).await?;
    warm.instance.kill().await;
    Ok(())
}

/// Returns the boot snapshot for machines like `requested`, and builds it if it is missing.
///
/// # Errors
/// If a guest of that shape cannot be booted or saved on this host.
pub async fn prepare(engine: &Engine, requested: &MachineSpec) -> Result<Snapshot, BootSnapshotError> {
    let guest = ResolvedRequest::resolve(engine, requested)?;
    match find_or_build(engine, guest.request(), true).await {
        // The first guest on this host's KVM failed: the next one is emulated or uses another driver.
        Err(error) if error.is_kvm() => Box::pin(prepare(engine, requested)).await,
        Err(error) => Err(error),
        Ok(snapshot) => {
            guest.request().failures(engine).clear();
            Ok(snapshot)
        }
    }
}

/// A request with its driver, kernel and accelerator resolved, for machines like the one in `machine`.
struct ResolvedRequest {
    driver: Arc<dyn Driver>,
    kernel: Kernel,
    chosen: AcceleratorChoice,
    spec: LaunchSpec,
    requires: Requirements,
    machine: MachineSpec,
}

impl ResolvedRequest {
    fn resolve(engine: &Engine, requested: &MachineSpec) -> Result<Self, StageError> {
        let mut machine = requested.clone();
        let driver = driver::resolve(engine, &mut machine)?;
        let kernel = Kernel::load(engine.home().home())?;
        let chosen = accelerator::choose(engine.home(), machine.accelerator, driver.as_ref(), &kernel);
        chosen.warn();
        let shape = shape(engine.home(), &kernel, &machine, chosen.accelerator);
        // Only tells `build::placeholder_spec` that the guest has a network.
        let network =
            (machine.network != NetworkMode::None).then(network::placeholder_user_network).transpose()?;
        let spec = LaunchSpec { network, ..shape };
        let requires = requires(driver.as_ref(), &kernel, &spec);
        Ok(Self { driver, kernel, chosen, spec, requires, machine })
    }

    fn request(&self) -> GuestRequest<'_> {
        GuestRequest {
            driver: self.driver.as_ref(),
            kernel: &self.kernel,
            spec: &self.spec,
            requires: &self.requires,
            chosen: &self.chosen,
            machine: &self.machine,
        }
    }
}

/// Returns the boot snapshot for the request, and builds it if it is missing. After a recent failure it is built only
/// if `is_retry` is set.
async fn find_or_build(
    engine: &Engine,
    request: GuestRequest<'_>,
    is_retry: bool,
) -> Result<Snapshot, BootSnapshotError> {
    let store = engine.snapshots();
    let key = request.key();
    if let Some(found) = store.find_boot_snapshot(key.as_str()).map_err(StageError::from)? {
        return Ok(found);
    }
    // Of several processes that need it at once, one builds it and the others wait.
    let _build_lock = lock(engine.home().snapshots().join(format!(".building-{key}"))).await?;
    if let Some(found) = store.find_boot_snapshot(key.as_str()).map_err(StageError::from)? {
        return Ok(found);
    }
    // If the process that held the lock has failed, the one that waited does not try again.
    let failed = request.failures(engine).current(Timestamp::now());
    if let Some(Failure { reason, until, .. }) = failed.filter(|_| !is_retry) {
        return Err(BootSnapshotError::FailedRecently { reason, until });
    }
    // A snapshot so damaged that it cannot be read would be reported again and again.
    snapshot::discard_damaged(&store, key.as_str()).map_err(StageError::from)?;
    warn_if_slow(request.spec.memory_mib);
    let built = build::build(engine, request, key).await.map_err(BootSnapshotError::from);
    built.inspect_err(|error| remember(engine, request, FailureKind::Persistent, error, is_retry))
}

/// A guest initializes each page of its memory when it boots, and all of it is searched for pages to save: without a
/// word, the wait would look like a hang.
fn warn_if_slow(memory_mib: u32) {
    if memory_mib >= LARGE_MEMORY_MIB {
        tracing::warn!(
            component = "boot_snapshot",
            memory_mib,
            "booting the first guest with this much memory, which takes a while; later machines start from its snapshot"
        );
    }
}

async fn lock(path: PathBuf) -> Result<File, StageError> {
    Ok(lock_exclusive(&path).await.at("lock", &path)?)
}

/// Whether `run` may still restore from this snapshot: it is not retired, and has the agent and the kernel that are in
/// use now.
#[must_use]
pub fn is_current(engine: &Engine, snapshot: &Snapshot) -> bool {
    if engine.snapshots().is_retired(&snapshot.manifest.id) {
        return false;
    }
    let requires = &snapshot.manifest.requires;
    let kernel = Kernel::load(engine.home().home()).map(|kernel| kernel.manifest.image.sha256);
    requires.agent_blake3 == agent::digest() && kernel.is_ok_and(|kernel| kernel == requires.kernel_sha256)
}
