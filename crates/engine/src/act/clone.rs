//! `snapshot run`: copies of a snapshot, side by side.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::spawn::{Child, SpawnError};
use crate::Engine;
use crate::admission;
use crate::id::SnapshotId;
use crate::machine::{CloneWishes, MachineName};
use crate::order::{CloneInfo, CloneOrder, Hold, Order};

/// What became of one copy that was asked for.
#[derive(Debug)]
pub struct Cloned {
    /// The name that was asked for, or its place in the request.
    pub asked: String,
    /// The copy, or why there is none.
    pub outcome: Result<CloneInfo, SpawnError>,
}

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
                Err(refusal) => Err(refusal),
            };
            (place, Cloned { asked, outcome })
        });
    }
    let mut done: Vec<_> = running.join_all().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, cloned)| cloned).collect()
}

/// Copies that are started at the same time: more than the host has processors
/// for would only push each other aside, and all be late.
pub(crate) fn turns() -> Arc<Semaphore> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Arc::new(Semaphore::new(processors + 1))
}

async fn one(order: CloneOrder) -> Result<CloneInfo, SpawnError> {
    let mut child = Child::start(&Order::Clone(Box::new(order))).await?;
    let info = child.ready().await?;
    child.let_go();
    Ok(info)
}

pub(crate) fn asked(name: Option<&MachineName>, place: usize) -> String {
    name.map_or_else(|| format!("copy {}", place + 1), ToString::to_string)
}

impl fmt::Display for Cloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(info) => write!(f, "{}", info.name),
            Err(error) => write!(f, "{}: {}", self.asked, crate::cause::chain(error)),
        }
    }
}
