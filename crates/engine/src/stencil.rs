//! Stencils: what machines begin as where instructions are translated.
//!
//! A translator keeps nothing from one process to the next, so that a machine
//! pays anew for all code that it comes by: most of the start of one that has
//! booted before. So the first machine that is started from a snapshot has a
//! stencil made: a machine that goes once all the ways that those will go ([`Rehearsal`])
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

use mimeo_agent_protocol::link::LinkError;
use mimeo_pager::{Capture, PAGE, PagerError, Pages, lay};
use mimeo_vmm::{
    CheckpointError, Driver, Instance, KeptProcess, LaunchSpec, OperationError, RestoreError, SavedMachine,
};
use rustix::fs::{FlockOperation, flock};
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cause::chain;
use crate::create::StageError;
use crate::exclusive::exclusive;
use crate::hang::{self, HangDump, SilentGuest};
use crate::machine::{boot_id, remove_dir};
use crate::snapshot::{STATE, Snapshot, SnapshotId, Snapshots, TakeError, capture};

/// The guest's memory, when the process was kept.
const MEMORY: &str = "memory";
/// Where that differs from the snapshot's.
const PAGES: &str = "memory.pages";
/// What differs, on its way.
const DIFFERENCE: &str = "memory.new";
/// Marks that none can be made, and why.
const NONE: &str = "none";
/// Times that the way is gone: the second time by what all others go, a session
/// in the place of another.
const REHEARSALS: u32 = 2;
/// After this long it is tried again: the disk may have been full.
const RETRY: Duration = Duration::from_secs(600);
/// How long one of them may take, on a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// What machines begin as.
#[derive(Debug)]
pub(crate) struct Stencil {
    /// Where its files are.
    pub(crate) dir: PathBuf,
    pub(crate) process: KeptProcess,
    /// Where its memory is not the snapshot's.
    pub(crate) besides: Pages,
}

impl Stencil {
    /// Has the machines that begin from now on begin without, when the process that was
    /// kept does not go on here.
    pub(crate) fn give_up(&self, error: RestoreError) -> Result<(), RestoreError> {
        // Another would come to the same: there is no program, or a port is taken.
        if matches!(error, RestoreError::Launch(_) | RestoreError::Operation(OperationError::Refused { .. }))
        {
            return Err(error);
        }
        let why = chain(&error);
        match error {
            // Somebody ended it, which says nothing of the next.
            RestoreError::Process(CheckpointError::Ended) => {
                tracing::warn!(component = "stencil", error = why, "begins without");
                return Ok(());
            }
            // Something was replaced since: the next makes it anew.
            RestoreError::Process(CheckpointError::Foreign { .. }) => {
                tracing::warn!(component = "stencil", error = why, "begins without");
                seal::open(&self.dir);
                return Ok(());
            }
            _ => {}
        }
        tracing::warn!(component = "stencil", dir = %self.dir.display(), error = why, "given up");
        // Where this cannot be written, those after it try again.
        fs::write(self.dir.join(NONE), why).ok();
        Ok(())
    }
}

/// What a stencil is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) snapshot: &'a Snapshot,
    /// The snapshot's whole memory.
    pub(crate) memory: &'a Path,
    /// A machine that is to begin so.
    pub(crate) spec: &'a LaunchSpec,
}

/// What a machine does that others begin as.
pub(crate) trait Rehearsal: Sync {
    /// Gives it disks in `dir`, where its process is kept, and says what it is.
    fn furnish(&self, dir: &Path) -> Result<LaunchSpec, StageError>;

    /// Goes the way once, in a session on this channel, and leaves the guest as
    /// the snapshot has it.
    fn go(&self, channel: UnixStream) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The snapshot's stencil, made now if it is not there. None where machines do
/// not need one, or where none can be made.
pub(crate) async fn of(
    store: &Snapshots,
    wanted: Wanted<'_>,
    rehearsal: Result<impl Rehearsal, StageError>,
) -> Option<Stencil> {
    if !wanted.driver.keeps_process(wanted.spec.accelerator) {
        return None;
    }
    let found = match rehearsal {
        Ok(rehearsal) => find_or_make(store, wanted, &rehearsal).await,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| {
        let snapshot = wanted.snapshot.manifest.id.short();
        tracing::warn!(component = "stencil", snapshot, error = chain(&error), "begins without");
        None
    })
}

async fn find_or_make(
    store: &Snapshots,
    wanted: Wanted<'_>,
    rehearsal: &impl Rehearsal,
) -> Result<Option<Stencil>, StageError> {
    let all = directory(store);
    let dir = all.join(wanted.snapshot.manifest.id.short());
    if let Found::No = find(&dir) {
        fs::create_dir_all(&all).map_err(io_error("make", &all))?;
        // Of several machines that begin at once, one makes it for all.
        let _making = lock(all.join(lock_of(wanted.snapshot.manifest.id.short()))).await?;
        if let Found::No = find(&dir) {
            remove_dir(&dir).map_err(io_error("remove", &dir))?;
            make(store, wanted, rehearsal, &dir).await?;
        }
    }
    match find(&dir) {
        Found::Here => read(&dir, wanted.spec.memory_mib).map(Some),
        Found::No | Found::Never => Ok(None),
    }
}

/// What the lock begins with of who makes one.
const LOCK: &str = ".making-";

fn lock_of(snapshot: &str) -> String {
    format!("{LOCK}{snapshot}")
}

/// What there is of a stencil.
enum Found {
    Here,
    /// None was made, or not all of it is what was made.
    No,
    /// None could be made, a short while ago.
    Never,
}

fn find(dir: &Path) -> Found {
    if let Ok(mark) = fs::metadata(dir.join(NONE)) {
        let is_young = mark.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < RETRY));
        return if is_young { Found::Never } else { Found::No };
    }
    if seal::is_whole(dir) { Found::Here } else { Found::No }
}

fn read(dir: &Path, memory_mib: u32) -> Result<Stencil, StageError> {
    let path = dir.join(PAGES);
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    let besides = Pages::from_bytes(&bytes, (u64::from(memory_mib) << 20) / PAGE);
    let besides = besides.map_err(io::Error::other).map_err(io_error("read", &path))?;
    let process = KeptProcess { dir: dir.to_owned(), memory: dir.join(MEMORY) };
    Ok(Stencil { dir: dir.to_owned(), process, besides })
}

/// Makes it, or a mark that it cannot be made, and gives either its name.
async fn make(
    store: &Snapshots,
    wanted: Wanted<'_>,
    rehearsal: &impl Rehearsal,
    dir: &Path,
) -> Result<(), StageError> {
    let all = dir.parent().unwrap_or(dir);
    let draft = tempfile::Builder::new().prefix(".new-").tempdir_in(all).map_err(io_error("make", all))?;
    if let Err(error) = rehearse(store, wanted, rehearsal, draft.path()).await {
        tracing::warn!(
            component = "stencil",
            snapshot = wanted.snapshot.manifest.id.short(),
            error = chain(&error),
            "cannot be made"
        );
        remove_dir(draft.path())
            .and_then(|()| fs::create_dir(draft.path()))
            .map_err(io_error("empty", all))?;
        fs::write(draft.path().join(NONE), chain(&error)).map_err(io_error("write", all))?;
    }
    fs::rename(draft.path(), dir).map_err(io_error("name", dir))?;
    // It has another name now, and is not to be removed.
    let _named = draft.keep();
    Ok(())
}

/// Has a machine go all ways, and keeps it.
async fn rehearse(
    store: &Snapshots,
    wanted: Wanted<'_>,
    rehearsal: &impl Rehearsal,
    dir: &Path,
) -> Result<(), StageError> {
    let spec = rehearsal.furnish(dir)?;
    let state = wanted.snapshot.dir.join(STATE);
    let saved = SavedMachine { state, memory: wanted.memory.to_owned(), pager: None };
    let mut instance = wanted.driver.restore(&spec, &saved).await?;
    let kept = match go_and_keep(instance.as_mut(), rehearsal, dir).await {
        Ok(kept) => Ok(kept),
        Err(error) => {
            let id = wanted.snapshot.manifest.id.short();
            let guest = SilentGuest { instance: instance.as_mut(), id, console: &spec.console };
            Err(hang::explain(store.home(), guest, error).await)
        }
    };
    instance.kill().await;
    let (capture, pages) = kept?;
    let (below, dir) = (wanted.memory.to_owned(), dir.to_owned());
    let laying = spawn_blocking(move || lay_out(capture, &pages, &below, &dir));
    laying.await.map_err(|_| TakeError::CutOff)?
}

async fn go_and_keep(
    instance: &mut dyn Instance,
    rehearsal: &impl Rehearsal,
    dir: &Path,
) -> Result<(Capture, Pages), StageError> {
    instance.resume().await?;
    // Open until the process is kept, of which it is a part.
    let mut channel = instance.take_link()?;
    for _ in 0..REHEARSALS {
        let (session, mut relayed) = UnixStream::pair().map_err(io_error("relay the link of", dir))?;
        tokio::select! {
            gone = timeout(PATIENCE, rehearsal.go(session)) => gone.map_err(|_| silent())??,
            _ = copy_bidirectional(&mut channel, &mut relayed) => return Err(LinkError::Closed.into()),
        }
    }
    instance.pause().await?;
    let (memory, diff) = (instance.memory()?, dir.join(DIFFERENCE));
    let preparing = spawn_blocking(move || capture(memory, Pages::default(), &diff));
    let mut capture = preparing.await.map_err(|_| TakeError::CutOff)?.map_err(TakeError::from)?;
    // Memory and process are of one moment: the monitor writes to its guest's memory, too.
    let (taken, take) = oneshot::channel();
    let meanwhile = move || {
        let pages = capture.take().map_err(io::Error::other)?;
        taken.send((capture, pages)).map_err(|_| io::Error::other("nobody waits for it"))
    };
    instance.keep_process(dir, Box::new(meanwhile)).await?;
    Ok(take.await.map_err(|_| TakeError::CutOff)?)
}

fn silent() -> StageError {
    StageError::SilentWarmUp { seconds: PATIENCE.as_secs(), dump: HangDump::default() }
}

/// Makes one file of the snapshot's memory and what was changed of it.
fn lay_out(capture: Capture, pages: &Pages, below: &Path, dir: &Path) -> Result<(), StageError> {
    let diff = dir.join(DIFFERENCE);
    let laid = capture
        .finish(false, false)
        .and_then(|_| lay(below, &diff, pages, &dir.join(MEMORY)).map_err(PagerError::from));
    laid.map_err(TakeError::from)?;
    fs::remove_file(&diff).map_err(io_error("remove", &diff))?;
    let list = dir.join(PAGES);
    fs::write(&list, pages.to_bytes()).map_err(io_error("write", &list))?;
    seal::close(dir).map_err(io_error("seal", dir))
}

/// Forgets the stencil of a snapshot. Machines that began as it go on.
pub(crate) fn forget(store: &Snapshots, id: &SnapshotId) {
    remove_dir(&directory(store).join(id.short())).ok();
    fs::remove_file(directory(store).join(lock_of(id.short()))).ok();
}

/// Removes what belongs to snapshots that are gone, or to the time before the
/// host went down.
pub(crate) fn sweep(store: &Snapshots) {
    let now = directory(store);
    for dir in entries(&store.home().stencils()).into_iter().filter(|dir| *dir != now) {
        remove_dir(&dir).ok();
    }
    let all = entries(&now);
    // While nobody makes one, what looks unfinished was given up.
    let locks: Vec<_> =
        all.iter().filter(|path| name(path).starts_with(LOCK)).map(|path| alone(path)).collect();
    let nobody_makes = locks.iter().all(Option::is_some);
    for path in &all {
        let name = name(path);
        let is_of_none = |snapshot: &str| !store.home().snapshots().join(snapshot).exists();
        let may_go = match name.strip_prefix(LOCK) {
            Some(snapshot) => nobody_makes && is_of_none(snapshot),
            None if name.starts_with('.') => nobody_makes,
            None => is_of_none(&name),
        };
        if may_go {
            remove_dir(path).or_else(|_| fs::remove_file(path)).ok();
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A lock that nobody holds, held.
fn alone(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn lock(path: PathBuf) -> Result<File, StageError> {
    exclusive(&path).await.map_err(io_error("lock", &path))
}

fn directory(store: &Snapshots) -> PathBuf {
    store.home().stencils().join(boot_id())
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::Io { step, path: path.to_owned(), source }
}
