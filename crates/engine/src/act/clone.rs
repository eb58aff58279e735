//! `snapshot run`: starts clones of a snapshot concurrently.

use tokio::task::JoinSet;

use crate::admission::Available;
use crate::id::SnapshotId;
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, LaunchRequest};
use crate::machine::CloneOverrides;
use crate::supervisor_process::{Cloned, SpawnError, SupervisorProcess, clone_label, start_permits};
use crate::{Engine, Home};

/// Starts a clone for each of `overrides`. Each succeeds or fails independently.
pub async fn clone(engine: &Engine, snapshot: &SnapshotId, overrides: Vec<CloneOverrides>) -> Vec<Cloned> {
    let memory = Available::now(engine);
    // All before the first one starts: it frees its reservation when it runs, and `memory` is what was available before.
    let admitted: Vec<_> = overrides.iter().map(|_| memory.reserve_clone(engine)).collect();
    let mut starting = JoinSet::new();
    let permits = start_permits();
    for (index, (overrides, admitted)) in overrides.into_iter().zip(admitted).enumerate() {
        let request = request(snapshot, overrides);
        let (permits, home) = (permits.clone(), engine.home().clone());
        starting.spawn(async move {
            let label = clone_label(request.overrides.name.as_ref(), index);
            let outcome = match admitted {
                Ok(_reservation) => {
                    let _permit = permits.acquire().await;
                    let info = start_clone(&home, request, std::future::pending()).await;
                    info.and_then(|info| info.ok_or(SpawnError::Gone))
                }
                Err(refusal) => Err(refusal.into()),
            };
            (index, Cloned { requested: label, outcome })
        });
    }
    let mut started: Vec<_> = starting.join_all().await;
    started.sort_by_key(|(index, _)| *index);
    started.into_iter().map(|(_, cloned)| cloned).collect()
}

/// Starts one clone. When `cancelled` completes, the start is undone, and `None` is returned after that; a clone that runs by
/// then is left running. Dropping the future has the start undone, too, but later.
///
/// # Errors
/// If the clone cannot be started.
pub async fn clone_unless(
    engine: &Engine,
    snapshot: &SnapshotId,
    overrides: CloneOverrides,
    cancelled: impl Future<Output = ()>,
) -> Result<Option<CloneInfo>, SpawnError> {
    let _reservation = Available::now(engine).reserve_clone(engine)?;
    start_clone(engine.home(), request(snapshot, overrides), cancelled).await
}

fn request(snapshot: &SnapshotId, overrides: CloneOverrides) -> CloneRequest {
    CloneRequest { snapshot: snapshot.clone(), hold: HoldPolicy::Never, serve: None, pager: None, overrides }
}

async fn start_clone(
    home: &Home,
    request: CloneRequest,
    cancelled: impl Future<Output = ()>,
) -> Result<Option<CloneInfo>, SpawnError> {
    let mut supervisor = SupervisorProcess::start(home, &LaunchRequest::Clone(Box::new(request))).await?;
    tokio::select! {
        info = supervisor.ready() => {
            let info = info?;
            supervisor.detach();
            Ok(Some(info))
        }
        () = cancelled => Ok(supervisor.cancel_clone().await),
    }
}
