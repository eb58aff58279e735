//! Stencils: what machines begin as where instructions are translated.
//!
//! A translator keeps nothing from one process to the next, so that a machine
//! pays anew for all code that it comes by: most of the start of one that has
//! booted before. So the first machine that is started from a snapshot has a
//! stencil made: a machine that goes once all the ways that those will go ([`WarmUp`])
//! and is ended, its process kept with all that it has translated. Those after it
//! begin as that process, and what they do not change of it they share.
//!
//! A stencil is made again at any time, so nobody waits for a disk; it is good
//! until the host goes down. Where there is none, machines begin without.

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
use crate::exclusive::exclusive;
use crate::failures::{Failed, Failures, Known};
use crate::hang::{HangDump, SilentGuest};
use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::launch_request::Retry;
use crate::machine::{boot_id, remove_dir};
use crate::snapshot::{STATE, Snapshot, Snapshots, WriteError, capture};
use crate::stage::StageError;

/// The guest's memory, when the process was kept.
const MEMORY: &str = "memory";
/// Where that differs from the snapshot's.
const DIVERGENT_PAGES: &str = "memory.pages";
/// What differs, on its way.
const DIFF: &str = "memory.new";
/// Times that the way is gone: the second time by what all others go, a session
/// in the place of another.
const WARM_UP_RUNS: u32 = 2;
/// How long one of them may take, on a host that is very busy.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// What machines begin as.
#[derive(Debug)]
pub(crate) struct Stencil {
    /// Where its files are.
    pub(crate) dir: PathBuf,
    pub(crate) process: CheckpointedProcess,
    /// Where its memory is not the snapshot's.
    pub(crate) divergent_pages: Pages,
    failures: Failures,
}

impl Stencil {
    /// Machines can be restored from it.
    pub(crate) fn was_restored(&self) {
        self.failures.clear();
    }

    /// Has later machines start without it, after a failed restore; why, as they say it. An error that has nothing to do
    /// with the stencil is given back.
    pub(crate) fn disable_after(&self, error: RestoreError) -> Result<String, RestoreError> {
        // Another would come to the same: there is no program, or a port is taken.
        if matches!(error, RestoreError::Launch(_) | RestoreError::Operation(OperationError::Refused { .. }))
        {
            return Err(error);
        }
        let why = chain(&error);
        match error {
            // Something was replaced since: the next makes it again.
            RestoreError::Process(CheckpointError::Incompatible { .. }) => seal::invalidate(&self.dir),
            // Somebody ended it, which says nothing of the next, unless that comes to the same.
            RestoreError::Process(CheckpointError::Ended) | RestoreError::Killed { .. } => {
                self.failures.add(Failed::Passing, why.clone(), Timestamp::now());
            }
            _ => drop(self.failures.add(Failed::Lasting, why.clone(), Timestamp::now())),
        }
        tracing::warn!(
            component = "stencil",
            dir = %self.dir.display(),
            error = why,
            "unavailable, restoring from the saved state"
        );
        Ok(format!("without a stencil, which could not be restored: {why}"))
    }
}

/// What there is to start from.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    pub(crate) stencil: Option<Stencil>,
    /// Why there is none, where there should be one.
    pub(crate) missing: Option<String>,
}

impl Lookup {
    fn missing(why: &str) -> Self {
        Self { stencil: None, missing: Some(format!("without a stencil, which is not to be had: {why}")) }
    }
}

/// What to do where there is none.
#[derive(Debug)]
pub(crate) enum BuildPolicy {
    /// Make it, unless that failed before: then start this retry once the pause is over.
    UnlessFailed(Retry),
    /// Make it, whatever failed before.
    Always,
}

/// What a stencil is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StencilRequest<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) snapshot: &'a Snapshot,
    /// The snapshot's whole memory.
    pub(crate) memory: &'a Path,
    /// A machine that is to begin so.
    pub(crate) spec: &'a LaunchSpec,
}

/// What a machine does that others begin as.
pub(crate) trait WarmUp: Sync {
    /// Gives it disks in `dir`, where its process is kept, and says what it is.
    fn build_spec(&self, dir: &Path) -> Result<LaunchSpec, StageError>;

    /// Goes the way once, in a session on this channel, and leaves the guest as
    /// the snapshot has it.
    fn run(&self, channel: UnixStream) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The snapshot's stencil, made now if it is not there. None where machines do
/// not need one, or where none can be made.
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
        tracing::warn!(component = "stencil", snapshot, error = why, "restoring from the saved state");
        Lookup::missing(&why)
    })
}

async fn try_find_or_build(
    store: &Snapshots,
    request: StencilRequest<'_>,
    policy: BuildPolicy,
    warm_up: &impl WarmUp,
) -> Result<Lookup, StageError> {
    let all = boot_directory(store);
    let dir = all.join(request.snapshot.manifest.id.short());
    let failures = stencil_failures(store, &request.snapshot.manifest.id);
    if let BuildPolicy::UnlessFailed(retry) = &policy {
        match failures.known(Timestamp::now()) {
            Known::Nothing => {}
            Known::Failure(failure) => return Ok(Lookup::missing(&failure.reason)),
            Known::RetryDue(failure) => {
                background::start(retry.clone()).await;
                return Ok(Lookup::missing(&failure.reason));
            }
        }
    }
    let is_retry = matches!(policy, BuildPolicy::Always);
    // One that is there may be what cannot be restored.
    let must_rebuild = || is_retry && failures.is_some();
    if must_rebuild() || !seal::is_intact(&dir) {
        fs::create_dir_all(&all).at("make", &all)?;
        // Of several machines that begin at once, one makes it for all.
        let _build_lock = lock(all.join(lock_name(request.snapshot.manifest.id.short()))).await?;
        if let Some(failure) = failures.holding(Timestamp::now()).filter(|_| !is_retry) {
            return Ok(Lookup::missing(&failure.reason));
        }
        if must_rebuild() || !seal::is_intact(&dir) {
            remove_dir(&dir).at("remove", &dir)?;
            let built = build(store, request, warm_up, &dir).await;
            match &built {
                Ok(()) => failures.clear(),
                Err(error) if is_retry => failures.add_retried(chain(error), Timestamp::now()),
                Err(error) => drop(failures.add(Failed::Lasting, chain(error), Timestamp::now())),
            }
            built?;
        }
    }
    let stencil = read_stencil(&dir, request.spec.memory_mib, failures)?;
    Ok(Lookup { stencil: Some(stencil), missing: None })
}

/// What is known of a snapshot's stencil: not beside it, since a full disk is why most fail.
fn stencil_failures(store: &Snapshots, id: &SnapshotId) -> Failures {
    Failures::at(store.home().run().join(format!("failed-stencil-{}.json", id.short())))
}
/// What the lock begins with of who makes one.
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

/// Makes it, and gives it its name once it is whole.
async fn build(
    store: &Snapshots,
    request: StencilRequest<'_>,
    warm_up: &impl WarmUp,
    dir: &Path,
) -> Result<(), StageError> {
    let all = dir.parent().unwrap_or(dir);
    let draft = tempfile::Builder::new().prefix(".new-").tempdir_in(all).at("make", all)?;
    warm_up_and_dump(store, request, warm_up, draft.path()).await?;
    fs::rename(draft.path(), dir).at("name", dir)?;
    // It has another name now, and is not to be removed.
    let _named = draft.keep();
    Ok(())
}

/// Has a machine go all ways, and keeps it.
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
    flattening.await.map_err(|_| WriteError::CutOff)?
}

async fn warm_up_and_checkpoint(
    instance: &mut dyn Instance,
    warm_up: &impl WarmUp,
    dir: &Path,
) -> Result<(Capture, Pages), StageError> {
    instance.resume().await?;
    // Open until the process is kept, of which it is a part.
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
    let mut capture = capturing.await.map_err(|_| WriteError::CutOff)?.map_err(WriteError::from)?;
    // Memory and process are of one moment: the monitor writes to its guest's memory, too.
    let (sender, receiver) = oneshot::channel();
    let copy_pages = move || {
        let pages = capture.copy_changed().map_err(io::Error::other)?;
        sender.send((capture, pages)).map_err(|_| io::Error::other("nobody waits for it"))
    };
    instance.checkpoint(dir, Box::new(copy_pages)).await?;
    Ok(receiver.await.map_err(|_| WriteError::CutOff)?)
}

fn silent_warm_up() -> StageError {
    StageError::SilentWarmUp { seconds: WARM_UP_TIMEOUT.as_secs(), dump: HangDump::default() }
}

/// Makes one file of the snapshot's memory and what was changed of it.
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

/// Forgets the stencil of a snapshot. Machines that began as it go on.
pub(crate) fn forget(store: &Snapshots, id: &SnapshotId) {
    let dir = boot_directory(store).join(id.short());
    stencil_failures(store, id).clear();
    remove_dir(&dir).ok();
    fs::remove_file(boot_directory(store).join(lock_name(id.short()))).ok();
}

/// Removes what belongs to snapshots that are gone, or to the time before the
/// host went down.
pub(crate) fn sweep(store: &Snapshots) {
    let current = boot_directory(store);
    for dir in entries(&store.home().stencils()).into_iter().filter(|dir| *dir != current) {
        remove_dir(&dir).ok();
    }
    let all = entries(&current);
    // While nobody makes one, what looks unfinished was given up.
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
            remove_dir(path).or_else(|_| fs::remove_file(path)).ok();
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A lock that nobody holds, held.
fn try_lock(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn lock(path: PathBuf) -> Result<File, StageError> {
    Ok(exclusive(&path).await.at("lock", &path)?)
}

fn boot_directory(store: &Snapshots) -> PathBuf {
    store.home().stencils().join(boot_id())
}
