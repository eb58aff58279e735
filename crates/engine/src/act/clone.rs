//! `snapshot run`: copies of a snapshot, side by side.

use tokio::task::JoinSet;

use crate::Engine;
use crate::admission;
use crate::id::SnapshotId;
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, LaunchRequest};
use crate::machine::CloneOverrides;
use crate::supervisor_process::{Cloned, SpawnError, SupervisorProcess, clone_label, start_permits};

/// Starts a copy for each of `overrides`. Each succeeds or fails by itself.
pub async fn clone(engine: &Engine, snapshot: &SnapshotId, overrides: Vec<CloneOverrides>) -> Vec<Cloned> {
    let mut memory = admission::AvailableMemory::now(engine);
    let mut running = JoinSet::new();
    let permits = start_permits();
    for (place, overrides) in overrides.into_iter().enumerate() {
        let admitted = memory.admit();
        let order = CloneRequest {
            snapshot: snapshot.clone(),
            hold: HoldPolicy::Never,
            serve: None,
            pager: None,
            overrides,
        };
        let permits = permits.clone();
        running.spawn(async move {
            let asked = clone_label(order.overrides.name.as_ref(), place);
            let outcome = match admitted {
                Ok(()) => {
                    let _permit = permits.acquire().await;
                    one(order).await
                }
                Err(refusal) => Err(refusal.into()),
            };
            (place, Cloned { requested: asked, outcome })
        });
    }
    let mut done: Vec<_> = running.join_all().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, cloned)| cloned).collect()
}

async fn one(order: CloneRequest) -> Result<CloneInfo, SpawnError> {
    let mut supervisor = SupervisorProcess::start(&LaunchRequest::Clone(Box::new(order))).await?;
    let info = supervisor.ready().await?;
    supervisor.detach();
    Ok(info)
}
