//! The monitor of a copy: as that of any machine, once the copy is made.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, Lines};
use tokio::sync::mpsc;

use super::run::Joined;
use super::signals::Signals;
use super::{Attachment, SupervisorError, run};
use crate::clone::{Identified, clone};
use crate::create::Running;
use crate::id::MachineId;
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, Release, SupervisorReport};
use crate::machine::{CloneOverrides, Exit, Record};
use crate::{Engine, fork_decision};

/// Makes a copy and stays with it until its end. `orders` says when it may go
/// on, when it holds; its end while the copy is made gives that up, and later,
/// when the copy belongs to a server, ends it.
///
/// # Errors
/// When the copy does not come up; nothing is left of it then.
pub async fn supervise_clone<R>(
    engine: &Engine,
    order: CloneRequest,
    orders: R,
    mut tell: impl FnMut(&SupervisorReport),
    started: impl FnOnce(&Record),
) -> Result<Exit, SupervisorError>
where
    R: AsyncBufRead + Unpin + Send + 'static,
{
    let mut signals =
        Signals::listen().map_err(|source| SupervisorError::Io { step: "listen to signals", source })?;
    let mut orders = orders.lines();
    let running = tokio::select! {
        biased;
        signal = signals.interruption() => return Err(SupervisorError::Interrupted { signal }),
        running = make(engine, &order, &mut orders, &mut tell) => running?,
    };
    let info = CloneInfo::new(&running.guest.claim.record, running.guest.claim.record.times.stages.clone());
    let running_on = |record: &Record| {
        tell(&SupervisorReport::Running { clone: Box::new(info) });
        started(record);
    };
    let (abandon, abandoned) = mpsc::channel(1);
    if order.serve.is_some() {
        tokio::spawn(lifeline(orders, abandon));
    }
    let joined = Joined { attachment: Attachment::default(), signals, abandoned };
    run::run(engine, running, joined, running_on).await
}

/// A server's end, however it comes, closes what it gave its copies to read.
async fn lifeline<R: AsyncBufRead + Unpin>(mut orders: Lines<R>, abandon: mpsc::Sender<()>) {
    while let Ok(Some(_)) = orders.next_line().await {}
    // A machine that has ended needs no end.
    abandon.send(()).await.ok();
}

async fn make<R: AsyncBufRead + Unpin>(
    engine: &Engine,
    order: &CloneRequest,
    orders: &mut Lines<R>,
    tell: &mut impl FnMut(&SupervisorReport),
) -> Result<Running, SupervisorError> {
    let mut identified = tokio::select! {
        identified = clone(engine, order) => identified?,
        () = given_up(orders) => return Err(SupervisorError::GivenUp),
    };
    let changes = hold(order, &mut identified, orders, tell).await?;
    Ok(identified.thaw(engine, changes).await?)
}

/// Whoever ordered the copy is gone. A line that comes early is not for now.
async fn given_up<R: AsyncBufRead + Unpin>(orders: &mut Lines<R>) {
    if let Ok(Some(_)) = orders.next_line().await {
        std::future::pending().await
    }
}

/// Waits until the workload may go on; what was changed about it since.
async fn hold<R: AsyncBufRead + Unpin>(
    order: &CloneRequest,
    identified: &mut Identified,
    orders: &mut Lines<R>,
    tell: &mut impl FnMut(&SupervisorReport),
) -> Result<Option<CloneOverrides>, SupervisorError> {
    if order.hold == HoldPolicy::Never {
        return Ok(None);
    }
    if order.hold == HoldPolicy::Pool {
        tokio::select! {
            () = identified.warm() => {}
            () = given_up(orders) => return Err(SupervisorError::GivenUp),
        }
    }
    if let HoldPolicy::Fork { .. } = order.hold {
        identified.publish().await?;
    }
    let info = identified.info();
    let id = info.id.clone();
    tell(&SupervisorReport::Ready { clone: Box::new(info) });
    let line = tokio::select! {
        line = orders.next_line() => line.ok().flatten(),
        // Who waits for it learns it from this process's end.
        () = identified.ended() => return Err(SupervisorError::GivenUp),
    };
    match (line.as_deref().map(serde_json::from_str), &order.hold) {
        (Some(Ok(Release::Proceed)), _) => Ok(None),
        (Some(Ok(Release::ProceedAs(overrides))), _) => Ok(Some(overrides)),
        // It was decided, and who decided it died before it could say so.
        (_, HoldPolicy::Fork { decision, .. }) if is_decided(decision, &id) => Ok(None),
        _ => Err(SupervisorError::GivenUp),
    }
}

fn is_decided(decision: &std::path::Path, id: &str) -> bool {
    MachineId::try_from(id.to_owned()).is_ok_and(|id| fork_decision::includes_clone(decision, &id))
}
