//! `snapshot run`: copies of a snapshot, side by side.

use tokio::task::JoinSet;

use crate::Engine;
use crate::admission;
use crate::id::SnapshotId;
use crate::machine::CloneWishes;
use crate::order::{CloneInfo, CloneOrder, Hold, Order};
use crate::supervisor_process::{Cloned, SpawnError, SupervisorProcess, asked, turns};

/// Starts a copy for each of `wishes`. Each succeeds or fails by itself.
pub async fn clone(engine: &Engine, snapshot: &SnapshotId, wishes: Vec<CloneWishes>) -> Vec<Cloned> {
    let mut room = admission::Room::now(engine);
    let mut running = JoinSet::new();
    let turns = turns();
    for (place, wishes) in wishes.into_iter().enumerate() {
        let admitted = room.admit();
        let order =
            CloneOrder { snapshot: snapshot.clone(), hold: Hold::Never, serve: None, pager: None, wishes };
        let turns = turns.clone();
        running.spawn(async move {
            let asked = asked(order.wishes.name.as_ref(), place);
            let outcome = match admitted {
                Ok(()) => {
                    let _turn = turns.acquire().await;
                    one(order).await
                }
                Err(refusal) => Err(refusal.into()),
            };
            (place, Cloned { asked, outcome })
        });
    }
    let mut done: Vec<_> = running.join_all().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, cloned)| cloned).collect()
}

async fn one(order: CloneOrder) -> Result<CloneInfo, SpawnError> {
    let mut supervisor = SupervisorProcess::start(&Order::Clone(Box::new(order))).await?;
    let info = supervisor.ready().await?;
    supervisor.let_go();
    Ok(info)
}
