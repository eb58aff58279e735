//! `fork`: clones of a running machine, all or none.
//!
//! Each clone is started until its identity has been applied, and is held there. When all of them are ready,
//! one file records the decision that the fork takes place. After that each clone resumes, even if the forking
//! process dies before it has released all of them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::{ActError, snapshot};
use crate::admission::Available;
use crate::exclusive::lock_exclusive;
use crate::fork_decision::{self, Decision};
use crate::id::SnapshotId;
use crate::ignored::{LogFailure, LogIgnored};
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, LaunchRequest, Release};
use crate::machine::{CloneOverrides, Found};
use crate::snapshot::Kind;
use crate::supervisor_process::{Cloned, SpawnError, SupervisorProcess, clone_label, start_permits};
use crate::{Engine, Home, durable, garbage};

/// A request to fork a machine.
#[derive(Debug, Clone, Default)]
pub struct ForkRequest {
    /// One entry for each clone.
    pub overrides: Vec<CloneOverrides>,
    /// A key makes the fork idempotent: a repeated request with the same key returns the first fork.
    pub key: Option<String>,
}

/// A completed fork.
#[derive(Debug)]
pub struct Forked {
    /// The snapshot that the clones were started from.
    pub snapshot: SnapshotId,
    /// How long the source's workload was paused, in microseconds.
    pub pause_micros: u64,
    /// The clones. The outcome of a clone whose workload could not resume is an error.
    pub clones: Vec<Cloned>,
    /// Whether the fork was done earlier, under the same key.
    pub repeated: bool,
}

/// Why a fork failed. None of the requested clones exists then.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The machine's snapshot could not be taken.
    #[error(transparent)]
    Act(#[from] ActError),
    /// A clone could not be started, so none was.
    #[error("no clone was started, because {requested} failed")]
    Clone {
        /// The clone's label.
        requested: String,
        /// Why it failed.
        #[source]
        source: SpawnError,
    },
    /// The key belongs to the fork of another machine.
    #[error("the key {key:?} belongs to a fork of machine {machine}")]
    KeyOfOtherMachine {
        /// The key.
        key: String,
        /// The other machine's id.
        machine: String,
    },
    /// The key belongs to a fork of this machine with other options.
    #[error("the key {key:?} belongs to a fork with other clones: repeat that request, or use another key")]
    KeyOfOtherRequest {
        /// The key.
        key: String,
    },
    /// The decision could not be written, so no clone was started.
    #[error("no clone was started: cannot write {}", path.display())]
    Decide {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

/// Forks the machine.
///
/// # Errors
/// If one of the clones cannot be started: then none is.
pub async fn fork(engine: &Engine, machine: &Found, request: ForkRequest) -> Result<Forked, ForkError> {
    let path = fork_decision::path(engine, request.key.as_deref());
    // A concurrent request with the same key waits for the first one.
    let _key_lock = match &request.key {
        Some(_) => Some(lock(path.with_extension("lock")).await?),
        None => None,
    };
    let request_digest = digest_of_request(&request.overrides);
    if let Some(done) = find_repeated(engine, &path, machine, request.key.as_deref(), &request_digest)? {
        return Ok(done);
    }
    let (memory, mut reservations) = (Available::now(engine), Vec::new());
    for (index, overrides) in request.overrides.iter().enumerate() {
        let label = clone_label(overrides.name.as_ref(), index);
        let reserved = memory.reserve_clone(engine);
        reservations
            .push(reserved.map_err(|error| ForkError::Clone { requested: label, source: error.into() })?);
    }
    let saved = snapshot(engine, machine, None, Kind::Fork).await?;
    let (mut clones, infos) = match start_clones(engine, &saved.snapshot, request.overrides, &path).await {
        Ok(ready) => ready,
        Err(error) => {
            discard_snapshot(engine, &saved.snapshot);
            return Err(error);
        }
    };
    let decision = Decision {
        machine: machine.record.id.clone(),
        snapshot: saved.snapshot.clone(),
        pause_micros: saved.pause_micros,
        clones: infos,
        request_digest,
    };
    if let Err(error) = decide(&mut clones, &path, &decision) {
        remove_decision(&path);
        abandon_clones(clones).await;
        discard_snapshot(engine, &saved.snapshot);
        return Err(error);
    }
    let clones = release_clones(clones).await;
    drop(reservations);
    if request.key.is_none() {
        // All clones were released: no process reads the decision again.
        fs::remove_file(&path).log_ignored("remove", &path);
    }
    Ok(Forked { snapshot: saved.snapshot, pause_micros: saved.pause_micros, clones, repeated: false })
}

/// Forgets the fork with this key: a later request with the same key starts new clones. For callers that record themselves
/// that the fork was carried out.
pub fn forget_fork(engine: &Engine, key: &str) {
    let path = fork_decision::path(engine, Some(key));
    remove_decision(&path);
    let lock = path.with_extension("lock");
    fs::remove_file(&lock).log_ignored("remove", &lock);
}

/// Returns a digest of the request, to detect a different request with the same key.
fn digest_of_request(overrides: &[CloneOverrides]) -> String {
    // A repeated request may have other ids, since its clones are not started.
    let overrides: Vec<_> =
        overrides.iter().map(|overrides| CloneOverrides { id: None, ..overrides.clone() }).collect();
    // Overrides consist of strings, numbers and maps of them: serialization cannot fail.
    blake3::hash(&serde_json::to_vec(&overrides).unwrap_or_default()).to_hex().to_string()
}

/// Writes the decision, if the supervisors of all clones still run.
fn decide(
    clones: &mut [(String, SupervisorProcess)],
    path: &Path,
    decision: &Decision,
) -> Result<(), ForkError> {
    for (label, supervisor) in clones {
        if !supervisor.is_alive() {
            return Err(ForkError::Clone { requested: label.clone(), source: SpawnError::Gone });
        }
    }
    durable::write_json(path, decision).map_err(|source| ForkError::Decide { path: path.to_owned(), source })
}

/// Removes a decision, if there is one, also one that may exist although writing it failed: clones that find it would
/// resume.
fn remove_decision(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(component = "fork", path = %path.display(), %error, "cannot remove the decision of a fork");
        }
        _ => {}
    }
}

/// Starts all clones and waits until they are ready; on a failure abandons all of them.
async fn start_clones(
    engine: &Engine,
    snapshot: &SnapshotId,
    overrides: Vec<CloneOverrides>,
    decision: &Path,
) -> Result<(Vec<(String, SupervisorProcess)>, Vec<CloneInfo>), ForkError> {
    let (mut starting, permits, count) = (JoinSet::new(), start_permits(), overrides.len());
    for (index, overrides) in overrides.into_iter().enumerate() {
        let label = clone_label(overrides.name.as_ref(), index);
        let hold = HoldPolicy::Fork { decision: decision.to_owned(), clones: count };
        let request = CloneRequest { snapshot: snapshot.clone(), hold, serve: None, pager: None, overrides };
        let (permits, home) = (permits.clone(), engine.home().clone());
        starting.spawn(async move {
            let _permit = permits.acquire().await;
            (index, label, start_clone(&home, &LaunchRequest::Clone(Box::new(request))).await)
        });
    }
    let mut started = starting.join_all().await;
    started.sort_by_key(|(index, ..)| *index);
    let (mut ready, mut infos, mut failed) = (Vec::new(), Vec::new(), None);
    for (_, label, started) in started {
        match started {
            Ok((supervisor, info)) => {
                ready.push((label, supervisor));
                infos.push(info);
            }
            Err(source) => failed = failed.or(Some(ForkError::Clone { requested: label, source })),
        }
    }
    match failed {
        None => Ok((ready, infos)),
        Some(error) => {
            abandon_clones(ready).await;
            Err(error)
        }
    }
}

async fn start_clone(
    home: &Home,
    request: &LaunchRequest,
) -> Result<(SupervisorProcess, CloneInfo), SpawnError> {
    let mut supervisor = SupervisorProcess::start(home, request).await?;
    let info = supervisor.ready().await?;
    Ok((supervisor, info))
}

/// Ends all clones. A failure of the fork is reported only after they are gone.
async fn abandon_clones(clones: Vec<(String, SupervisorProcess)>) {
    for (_, supervisor) in clones {
        supervisor.abandon().await;
    }
}

async fn release_clones(clones: Vec<(String, SupervisorProcess)>) -> Vec<Cloned> {
    let mut released = JoinSet::new();
    for (index, (label, mut supervisor)) in clones.into_iter().enumerate() {
        released.spawn(async move {
            let outcome = supervisor.release(&Release::Proceed).await;
            supervisor.detach();
            (index, Cloned { requested: label, outcome })
        });
    }
    let mut done = released.join_all().await;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, cloned)| cloned).collect()
}

fn discard_snapshot(engine: &Engine, id: &SnapshotId) {
    if let Ok(snapshot) = engine.snapshots().read(id) {
        garbage::discard(engine, &snapshot).log_failure("fork", "discard the snapshot of a failed fork");
    }
}

async fn lock(path: PathBuf) -> Result<File, ForkError> {
    lock_exclusive(&path).await.map_err(|source| ForkError::Decide { path, source })
}

/// Returns the fork with this key, if it was done before.
fn find_repeated(
    engine: &Engine,
    path: &Path,
    machine: &Found,
    key: Option<&str>,
    request_digest: &str,
) -> Result<Option<Forked>, ForkError> {
    let Some(decision) = key.and_then(|_| fork_decision::read(path)) else { return Ok(None) };
    if decision.machine != machine.record.id {
        return Err(ForkError::KeyOfOtherMachine {
            key: key.unwrap_or_default().to_owned(),
            machine: decision.machine.short().to_owned(),
        });
    }
    // A decision of an older version has no digest to compare.
    if !decision.request_digest.is_empty() && decision.request_digest != request_digest {
        return Err(ForkError::KeyOfOtherRequest { key: key.unwrap_or_default().to_owned() });
    }
    let clones = decision
        .clones
        .into_iter()
        .map(|info| Cloned { requested: info.name.to_string(), outcome: check_exists(engine, info) })
        .collect();
    let Decision { snapshot, pause_micros, .. } = Decision { clones: Vec::new(), ..decision };
    Ok(Some(Forked { snapshot, pause_micros, clones, repeated: true }))
}

/// Returns an error if the clone was removed since.
fn check_exists(engine: &Engine, info: CloneInfo) -> Result<CloneInfo, SpawnError> {
    if fork_decision::exists(engine, &info) { Ok(info) } else { Err(SpawnError::Removed) }
}
