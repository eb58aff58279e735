//! Stencils: checkpointed QEMU processes with a warm TCG cache, which machines are restored from when KVM is
//! unavailable.
//!
//! QEMU does not pass translated code from one process to the next, so a restored machine translates all code again
//! that it executes, which takes most of its start. The first machine that is started from a snapshot therefore
//! builds a stencil (in a fork: if it has three clones or more): a machine that executes, in two warm-up runs
//! ([`WarmUp`]), the code that later machines will execute. Its process is checkpointed with all translated code, and then killed. Later machines are restored from
//! that checkpoint, and share with it the pages that they do not change.
//!
//! A stencil can be rebuilt at any time, so its files are not synced to the disk, and it is valid until the host
//! reboots. Without a stencil, machines are restored from the saved state.

mod seal;

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::link::LinkError;
use mimeo_pager::{Capture, PAGE, PagerError, Pages, flatten};
use mimeo_vmm::{
    CheckpointError, CheckpointedProcess, Driver, Instance, LaunchSpec, OperationError, RestoreError,
    SavedMachine,
};
use rustix::fs::{FlockOperation, flock};
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::background;
use crate::cause::chain;
use crate::exclusive::lock_exclusive;
use crate::failures::{FailureKind, Failures, RetryState};
use crate::hang::{HangDump, SilentGuest};
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::launch_request::Retry;
use crate::machine::{Registry, boot_id, remove_dir};
use crate::snapshot::{self, STATE, Snapshot, Snapshots, StoreError, WriteError, capture};
use crate::stage::StageError;

/// The file of the guest's memory when the process was checkpointed.
const MEMORY: &str = "memory";
/// The list of pages that differ from the snapshot's memory.
const DIVERGENT_PAGES: &str = "memory.pages";
/// The contents of those pages, until they are merged into the memory file.
const DIFF: &str = "memory.new";
/// Warm-up runs of a stencil. The second one replaces the session of the first, as each restored machine does.
const WARM_UP_RUNS: u32 = 2;
/// How long one warm-up run may take. It allows for a very busy host.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// A checkpointed process that machines are restored from.
#[derive(Debug)]
pub(crate) struct Stencil {
    /// The directory of its files.
    pub(crate) dir: PathBuf,
    pub(crate) process: CheckpointedProcess,
    /// Pages that differ from the snapshot's memory.
    pub(crate) divergent_pages: Pages,
    failures: Failures,
}

impl Stencil {
    /// Clears recorded failures, after a machine was restored from it.
    pub(crate) fn record_success(&self) {
        self.failures.clear();
    }

    /// Disables this stencil after a failed restore, so that later machines use the saved state instead. Returns the
    /// reason for the machine's record, or the error itself if it has nothing to do with the stencil.
    pub(crate) fn disable_after(&self, error: RestoreError) -> Result<String, RestoreError> {
        // A restore from the saved state would fail as well: the program is missing, or a port is taken.
        if matches!(error, RestoreError::Launch(_) | RestoreError::Operation(OperationError::Refused { .. }))
        {
            return Err(error);
        }
        let why = chain(&error);
        match error {
            // The stencil no longer matches this host: the next machine rebuilds it.
            RestoreError::Process(CheckpointError::Incompatible { .. }) => seal::invalidate(&self.dir),
            // The process was killed. The next restore may succeed, unless it fails in the same way.
            RestoreError::Process(CheckpointError::Ended) | RestoreError::Killed { .. } => {
                self.failures.record(FailureKind::Transient, why.clone(), Timestamp::now());
            }
            _ => drop(self.failures.record(FailureKind::Persistent, why.clone(), Timestamp::now())),
        }
        tracing::warn!(
            component = "stencil",
            dir = %self.dir.display(),
            error = why,
            "stencil unavailable, restoring from the saved state"
        );
        Ok(format!("cannot restore the stencil: {why}"))
    }
}

/// The result of looking for a stencil.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    pub(crate) stencil: Option<Stencil>,
    /// Why there is none, if the machine should have one.
    pub(crate) missing: Option<String>,
}

impl Lookup {
    fn missing(why: &str) -> Self {
        Self { stencil: None, missing: Some(format!("stencil unavailable: {why}")) }
    }
}

/// Whether a missing stencil is built.
#[derive(Debug)]
pub(crate) enum BuildPolicy {
    /// Build it, unless that failed before. After a failure, the retry runs in the background once the delay is over.
    UnlessFailed(Retry),
    /// Build it, regardless of earlier failures.
    Always,
}

/// What a stencil is built from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StencilRequest<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) snapshot: &'a Snapshot,
    /// The snapshot's memory, flattened to one file.
    pub(crate) memory: &'a Path,
    /// The machine that needs the stencil.
    pub(crate) spec: &'a LaunchSpec,
}

/// The warm-up run of a stencil's machine.
pub(crate) trait WarmUp: Sync {
    /// Makes the machine's disks in `dir`, the stencil's directory, and returns its launch spec.
    fn build_spec(&self, dir: &Path) -> Result<LaunchSpec, StageError>;

    /// Runs once, in a session on this channel, and leaves the guest in the state in which the snapshot has it.
    fn run(&self, channel: UnixStream) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// Returns the snapshot's stencil, and builds it if it is missing. The result holds none if machines do not need one,
/// or if it cannot be built.
pub(crate) async fn find_or_build(
    store: &Snapshots,
    request: StencilRequest<'_>,
    policy: BuildPolicy,
    warm_up: Result<impl WarmUp, StageError>,
) -> Lookup {
    if !request.driver.can_checkpoint(request.spec.accelerator) {
        return Lookup::default();
    }
    let found = match warm_up {
        Ok(warm_up) => try_find_or_build(store, request, policy, &warm_up).await,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| {
        let (snapshot, why) = (request.snapshot.manifest.id.short(), chain(&error));
        tracing::warn!(
            component = "stencil",
            snapshot,
            error = why,
            "stencil unavailable, restoring from the saved state"
        );
        Lookup::missing(&why)
    })
}

async fn try_find_or_build(
    store: &Snapshots,
    request: StencilRequest<'_>,
    policy: BuildPolicy,
    warm_up: &impl WarmUp,
) -> Result<Lookup, StageError> {
    let stencils = boot_directory(store);
    let dir = stencils.join(request.snapshot.manifest.id.short());
    let failures = stencil_failures(store, &request.snapshot.manifest.id);
    if let BuildPolicy::UnlessFailed(retry) = &policy {
        match failures.retry_state(Timestamp::now()) {
            RetryState::Untried => {}
            RetryState::Waiting(failure) => return Ok(Lookup::missing(&failure.reason)),
            RetryState::RetryDue(failure) => {
                background::start_retry(retry.clone()).await;
                return Ok(Lookup::missing(&failure.reason));
            }
        }
    }
    let is_retry = matches!(policy, BuildPolicy::Always);
    // The existing stencil may be the one that cannot be restored.
    let must_rebuild = || is_retry && failures.is_some();
    if must_rebuild() || !seal::is_intact(&dir) {
        fs::create_dir_all(&stencils).at("create", &stencils)?;
        // Of several machines that start at once, one builds it for all.
        let _build_lock = lock(stencils.join(lock_name(request.snapshot.manifest.id.short()))).await?;
        if let Some(failure) = failures.current(Timestamp::now()).filter(|_| !is_retry) {
            return Ok(Lookup::missing(&failure.reason));
        }
        if must_rebuild() || !seal::is_intact(&dir) {
            remove_dir(&dir).at("remove", &dir)?;
            let built = build(store, request, warm_up, &dir).await;
            match &built {
                Ok(()) => failures.clear(),
                Err(error) if is_retry => failures.record_retry(chain(error), Timestamp::now()),
                Err(error) => drop(failures.record(FailureKind::Persistent, chain(error), Timestamp::now())),
            }
            built?;
        }
    }
    let stencil = read_stencil(&dir, request.spec.memory_mib, failures)?;
    Ok(Lookup { stencil: Some(stencil), missing: None })
}

/// The recorded failures of a snapshot's stencil. They are not stored beside it: most builds fail because that disk
/// is full.
fn stencil_failures(store: &Snapshots, id: &SnapshotId) -> Failures {
    Failures::new(store.home().run().join(format!("failed-stencil-{}.json", id.short())))
}

/// Prefix of the lock files of builds.
const LOCK_PREFIX: &str = ".making-";

fn lock_name(snapshot: &str) -> String {
    format!("{LOCK_PREFIX}{snapshot}")
}

fn read_stencil(dir: &Path, memory_mib: u32, failures: Failures) -> Result<Stencil, StageError> {
    let path = dir.join(DIVERGENT_PAGES);
    let bytes = fs::read(&path).at("read", &path)?;
    let divergent_pages = Pages::from_bytes(&bytes, (u64::from(memory_mib) << 20) / PAGE);
    let divergent_pages = divergent_pages.map_err(io::Error::other).at("read", &path)?;
    let process = CheckpointedProcess { dir: dir.to_owned(), memory: dir.join(MEMORY) };
    Ok(Stencil { dir: dir.to_owned(), process, divergent_pages, failures })
}

/// Builds the stencil in a draft directory, and renames it once it is complete.
async fn build(
    store: &Snapshots,
    request: StencilRequest<'_>,
    warm_up: &impl WarmUp,
    dir: &Path,
) -> Result<(), StageError> {
    let stencils = dir.parent().unwrap_or(dir);
    let draft = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(stencils)
        .at("create a directory in", stencils)?;
    warm_up_and_dump(store, request, warm_up, draft.path()).await?;
    fs::rename(draft.path(), dir).at("create", dir)?;
    // The directory was renamed: the draft's drop must not remove it.
    let _named = draft.keep();
    Ok(())
}

/// Starts a machine from the saved state, does its warm-up runs and checkpoints its process.
async fn warm_up_and_dump(
    store: &Snapshots,
    request: StencilRequest<'_>,
    warm_up: &impl WarmUp,
    dir: &Path,
) -> Result<(), StageError> {
    let spec = warm_up.build_spec(dir)?;
    let state = request.snapshot.dir.join(STATE);
    let saved = SavedMachine { state, memory: request.memory.to_owned(), pager: None };
    let mut instance = request.driver.restore(&spec, &saved).await?;
    let checkpointed = match warm_up_and_checkpoint(instance.as_mut(), warm_up, dir).await {
        Ok(checkpointed) => Ok(checkpointed),
        Err(error) => {
            let id = request.snapshot.manifest.id.short();
            let guest = SilentGuest { instance: instance.as_mut(), id, console: &spec.console };
            Err(error.with_evidence(store.home(), guest).await)
        }
    };
    instance.kill().await;
    let (capture, pages) = checkpointed?;
    let (below, dir) = (request.memory.to_owned(), dir.to_owned());
    let flattening = spawn_blocking(move || flatten_memory(capture, &pages, &below, &dir));
    flattening.await.map_err(|_| WriteError::Interrupted)?
}

async fn warm_up_and_checkpoint(
    instance: &mut dyn Instance,
    warm_up: &impl WarmUp,
    dir: &Path,
) -> Result<(Capture, Pages), StageError> {
    instance.resume().await?;
    // The channel stays open until the process is checkpointed: it is one of its descriptors.
    let mut channel = instance.take_link()?;
    for _ in 0..WARM_UP_RUNS {
        let (session, mut relayed) = UnixStream::pair().at("relay the link of", dir)?;
        tokio::select! {
            outcome = timeout(WARM_UP_TIMEOUT, warm_up.run(session)) => outcome.map_err(|_| silent_warm_up())??,
            _ = copy_bidirectional(&mut channel, &mut relayed) => return Err(LinkError::Closed.into()),
        }
    }
    instance.pause().await?;
    let (memory, diff) = (instance.memory()?, dir.join(DIFF));
    let capturing = spawn_blocking(move || capture(memory, Pages::default(), &diff));
    let mut capture = capturing.await.map_err(|_| WriteError::Interrupted)?.map_err(WriteError::from)?;
    // The pages are copied at the moment of the checkpoint: QEMU itself writes to its guest's memory, too.
    let (sender, receiver) = oneshot::channel();
    let copy_pages = move || {
        let pages = capture.copy_changed().map_err(io::Error::other)?;
        sender.send((capture, pages)).map_err(|_| io::Error::other("the receiver of the pages is gone"))
    };
    instance.checkpoint(dir, Box::new(copy_pages)).await?;
    Ok(receiver.await.map_err(|_| WriteError::Interrupted)?)
}

fn silent_warm_up() -> StageError {
    StageError::SilentWarmUp { seconds: WARM_UP_TIMEOUT.as_secs(), dump: HangDump::default() }
}

/// Merges the snapshot's memory and the changed pages into one file.
fn flatten_memory(capture: Capture, pages: &Pages, below: &Path, dir: &Path) -> Result<(), StageError> {
    let diff = dir.join(DIFF);
    let flattened = capture
        .finish(false, false)
        .and_then(|_| flatten(below, &diff, pages, &dir.join(MEMORY)).map_err(PagerError::from));
    flattened.map_err(WriteError::from)?;
    fs::remove_file(&diff).at("remove", &diff)?;
    let list = dir.join(DIVERGENT_PAGES);
    fs::write(&list, pages.to_bytes()).at("write", &list)?;
    Ok(seal::seal(dir).at("seal", dir)?)
}

/// Discards a snapshot, and its stencil if the snapshot was removed.
///
/// # Errors
/// When the snapshot cannot be discarded; its stencil stays.
pub(crate) fn discard_snapshot(
    store: &Snapshots,
    machines: &Registry,
    snapshot: &Snapshot,
) -> Result<(), StoreError> {
    if snapshot::discard(store, machines, snapshot)? {
        remove(store, &snapshot.manifest.id);
    }
    Ok(())
}

/// Removes the stencil of a snapshot. Machines that were restored from it keep running.
pub(crate) fn remove(store: &Snapshots, id: &SnapshotId) {
    let dir = boot_directory(store).join(id.short());
    stencil_failures(store, id).clear();
    remove_dir(&dir).log_ignored("remove the stencil", &dir);
    let lock = boot_directory(store).join(lock_name(id.short()));
    fs::remove_file(&lock).log_ignored("remove the lock file", &lock);
}

/// Removes stencils of removed snapshots, those of earlier boots of the host, and unfinished ones.
pub(crate) fn sweep(store: &Snapshots) {
    let current = boot_directory(store);
    for dir in entries(&store.home().stencils()).into_iter().filter(|dir| *dir != current) {
        remove_dir(&dir).log_leftover(&dir);
    }
    let all = entries(&current);
    // While no build runs, unfinished directories are abandoned.
    let locks: Vec<_> = all
        .iter()
        .filter(|path| file_name(path).starts_with(LOCK_PREFIX))
        .map(|path| try_lock(path))
        .collect();
    let no_build_runs = locks.iter().all(Option::is_some);
    for path in &all {
        let name = file_name(path);
        let snapshot_is_gone = |snapshot: &str| !store.home().snapshots().join(snapshot).exists();
        let is_stale = match name.strip_prefix(LOCK_PREFIX) {
            Some(snapshot) => no_build_runs && snapshot_is_gone(snapshot),
            None if name.starts_with('.') => no_build_runs,
            None => snapshot_is_gone(&name),
        };
        if is_stale {
            remove_dir(path).or_else(|_| fs::remove_file(path)).log_leftover(path);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Takes the lock if no process holds it.
fn try_lock(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn lock(path: PathBuf) -> Result<File, StageError> {
    Ok(lock_exclusive(&path).await.at("lock", &path)?)
}

/// The directory of this boot's stencils.
fn boot_directory(store: &Snapshots) -> PathBuf {
    store.home().stencils().join(boot_id())
}
