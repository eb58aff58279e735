//! `fork`: clones of a running machine, all or none.
//!
//! The clones are made as far as that they are themselves and hold. When
//! all of them are ready, one file says that the fork is decided; after that
//! each goes on, even if whoever forks dies before it could tell all of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::{ActError, snapshot};
use crate::admission::AvailableMemory;
use crate::exclusive::exclusive;
use crate::fork_decision::{self, Decision};
use crate::id::SnapshotId;
use crate::ignored::LogFailure;
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, LaunchRequest, Release};
use crate::machine::{CloneOverrides, Found};
use crate::snapshot::Kind;
use crate::supervisor_process::{Cloned, SpawnError, SupervisorProcess, clone_label, start_permits};
use crate::{Engine, durable, garbage};

/// A fork, as it is asked for.
#[derive(Debug, Clone, Default)]
pub struct ForkRequest {
    /// A supervisor for each.
    pub overrides: Vec<CloneOverrides>,
    /// A fork of the same key is done once, however often it is asked for.
    pub key: Option<String>,
}

/// A fork that was done.
#[derive(Debug)]
pub struct Forked {
    /// Where the machine was forked.
    pub snapshot: SnapshotId,
    /// How long its workload stood still, in microseconds.
    pub pause_micros: u64,
    /// The clones. One whose workload could not go on after all says why.
    pub clones: Vec<Cloned>,
    /// It had been done before, under the same key.
    pub repeated: bool,
}

/// Why there are no clones.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The machine could not be copied.
    #[error(transparent)]
    Act(#[from] ActError),
    /// One could not be made: none is left.
    #[error("no supervisor was made, since {requested} could not be")]
    Clone {
        /// Which one.
        requested: String,
        /// Why not.
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
    /// The key belongs to a fork of this machine for which something else was asked.
    #[error("the key {key:?} belongs to a fork with other clones: ask for the same, or take another key")]
    KeyOfOtherRequest {
        /// The key.
        key: String,
    },
    /// The decision could not be written: none is left.
    #[error("no supervisor was made: cannot write {}", path.display())]
    Decide {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Forks the machine.
///
/// # Errors
/// When one of the clones cannot be made: then there are none.
pub async fn fork(engine: &Engine, machine: &Found, request: ForkRequest) -> Result<Forked, ForkError> {
    let path = fork_decision::path(engine, request.key.as_deref());
    // Who asks with the same key at the same time waits for the first.
    let _key_lock = match &request.key {
        Some(_) => Some(lock(path.with_extension("lock")).await?),
        None => None,
    };
    let request_digest = digest_of_request(&request.overrides);
    if let Some(done) = find_repeated(engine, &path, machine, request.key.as_deref(), &request_digest)? {
        return Ok(done);
    }
    let mut memory = AvailableMemory::now(engine);
    for (index, overrides) in request.overrides.iter().enumerate() {
        let label = clone_label(overrides.name.as_ref(), index);
        memory.admit().map_err(|error| ForkError::Clone { requested: label, source: error.into() })?;
    }
    let saved = snapshot(engine, machine, None, Kind::Fork).await?;
    let (mut clones, infos) = match make_clones(&saved.snapshot, request.overrides, &path).await {
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
        // Half of a decision must not be taken for one.
        fs::remove_file(&path).ok();
        abandon_clones(clones).await;
        discard_snapshot(engine, &saved.snapshot);
        return Err(error);
    }
    let clones = release_clones(clones).await;
    if request.key.is_none() {
        // All have been told: nobody will ask again.
        fs::remove_file(&path).ok();
    }
    Ok(Forked { snapshot: saved.snapshot, pause_micros: saved.pause_micros, clones, repeated: false })
}

/// What is asked for under a key, so that it is known when something else is.
fn digest_of_request(overrides: &[CloneOverrides]) -> String {
    // Wishes are strings, numbers and maps of them: nothing fails.
    blake3::hash(&serde_json::to_vec(overrides).unwrap_or_default()).to_hex().to_string()
}

/// Writes the decision, if all clones are still there to hear of it.
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

/// All clones, ready to go on; or none.
async fn make_clones(
    snapshot: &SnapshotId,
    overrides: Vec<CloneOverrides>,
    decision: &Path,
) -> Result<(Vec<(String, SupervisorProcess)>, Vec<CloneInfo>), ForkError> {
    let (mut starting, permits, count) = (JoinSet::new(), start_permits(), overrides.len());
    for (index, overrides) in overrides.into_iter().enumerate() {
        let label = clone_label(overrides.name.as_ref(), index);
        let hold = HoldPolicy::Fork { decision: decision.to_owned(), clones: count };
        let request = CloneRequest { snapshot: snapshot.clone(), hold, serve: None, pager: None, overrides };
        let permits = permits.clone();
        starting.spawn(async move {
            let _permit = permits.acquire().await;
            (index, label, make_clone(&LaunchRequest::Clone(Box::new(request))).await)
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

async fn make_clone(request: &LaunchRequest) -> Result<(SupervisorProcess, CloneInfo), SpawnError> {
    let mut supervisor = SupervisorProcess::start(request).await?;
    let info = supervisor.ready().await?;
    Ok((supervisor, info))
}

/// Nobody is told that the fork failed before nothing is left of it.
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
    exclusive(&path).await.map_err(|source| ForkError::Decide { path, source })
}

/// The fork of this key, if it was done before.
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
    // One of before this was noted has nothing to compare.
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

/// A supervisor may have gone since.
fn check_exists(engine: &Engine, info: CloneInfo) -> Result<CloneInfo, SpawnError> {
    if fork_decision::exists(engine, &info) { Ok(info) } else { Err(SpawnError::Gone) }
}
