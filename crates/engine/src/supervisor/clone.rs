//! The supervisor of a clone: once the clone runs, the same as that of any machine.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, Lines};
use tokio::sync::mpsc;

use super::run::Endpoints;
use super::signals::Signals;
use super::{Attachment, SupervisorError, restart, run};
use crate::clone::{Identified, clone, is_disk_only, start_from_disk};
use crate::create::Running;
use crate::id::MachineId;
use crate::launch_request::{CloneInfo, CloneRequest, HoldPolicy, Release, SupervisorReport};
use crate::machine::{Exit, Record};
use crate::{Engine, fork_decision};

/// Starts a clone and supervises it until its end. `lines` is the supervisor's input: a line releases a
/// clone that waits. The end of the input cancels a start; later, it ends a clone that belongs to a
/// snapshot server.
///
/// # Errors
/// When the clone does not start; everything is undone in that case.
pub async fn supervise_clone<R>(
    engine: &Engine,
    request: CloneRequest,
    lines: R,
    mut report: impl FnMut(&SupervisorReport),
    started: impl FnOnce(&Record),
) -> Result<Exit, SupervisorError>
where
    R: AsyncBufRead + Unpin + Send + 'static,
{
    let mut signals =
        Signals::listen().map_err(|source| SupervisorError::Io { step: "listen to signals", source })?;
    let mut lines = lines.lines();
    let running = tokio::select! {
        biased;
        signal = signals.interruption() => return Err(SupervisorError::Interrupted { signal }),
        running = start_clone(engine, &request, &mut lines, &mut report) => running?,
    };
    let info = CloneInfo::new(&running.guest.claim.record, running.guest.claim.record.times.stages.clone());
    let on_running = |record: &Record| {
        report(&SupervisorReport::Running { clone: Box::new(info) });
        started(record);
    };
    let (server_gone_sender, server_gone) = mpsc::channel(1);
    // A clone that was released to run on its own does not end with its server.
    if running.guest.claim.record.serve.is_some() {
        tokio::spawn(watch_server(lines, server_gone_sender));
    }
    let endpoints = Endpoints { attachment: Attachment::default(), signals: &mut signals, server_gone };
    let ended = run::run(engine, running, endpoints, on_running).await?;
    Ok(restart::restart_while_due(engine, ended, &mut signals).await)
}

/// Waits for the end of a snapshot server: it closes the pipe that its clones' supervisors read, however it
/// ends.
async fn watch_server<R: AsyncBufRead + Unpin>(mut lines: Lines<R>, server_gone_sender: mpsc::Sender<()>) {
    while let Ok(Some(_)) = lines.next_line().await {}
    // The receiver is gone if the machine has ended.
    server_gone_sender.send(()).await.ok();
}

async fn start_clone<R: AsyncBufRead + Unpin>(
    engine: &Engine,
    request: &CloneRequest,
    lines: &mut Lines<R>,
    report: &mut impl FnMut(&SupervisorReport),
) -> Result<Running, SupervisorError> {
    if is_disk_only(engine, request) {
        return tokio::select! {
            running = start_from_disk(engine, request) => Ok(running?),
            () = cancelled(lines) => Err(SupervisorError::Cancelled),
        };
    }
    let mut identified = tokio::select! {
        identified = clone(engine, request) => identified?,
        () = cancelled(lines) => return Err(SupervisorError::Cancelled),
    };
    let release = wait_for_release(request, &mut identified, lines, report).await?;
    Ok(identified.thaw(engine, release).await?)
}

/// Waits for the end of the input, which means that the client is gone. Ignores a line that comes early.
async fn cancelled<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>) {
    if let Ok(Some(_)) = lines.next_line().await {
        std::future::pending().await
    }
}

/// Waits until the workload may be thawed; returns how.
async fn wait_for_release<R: AsyncBufRead + Unpin>(
    request: &CloneRequest,
    identified: &mut Identified,
    lines: &mut Lines<R>,
    report: &mut impl FnMut(&SupervisorReport),
) -> Result<Release, SupervisorError> {
    if request.hold == HoldPolicy::Never {
        return Ok(Release::Proceed);
    }
    if request.hold == HoldPolicy::Pool {
        tokio::select! {
            () = identified.warm_up() => {}
            () = cancelled(lines) => return Err(SupervisorError::Cancelled),
        }
    }
    if let HoldPolicy::Fork { .. } = request.hold {
        identified.publish().await?;
    }
    let info = identified.info();
    let id = info.id.clone();
    report(&SupervisorReport::Ready { clone: Box::new(info) });
    let line = tokio::select! {
        line = lines.next_line() => line.ok().flatten(),
        // The client notices the end of this process.
        () = identified.wait_for_exit() => return Err(SupervisorError::Cancelled),
    };
    match (line.as_deref().map(serde_json::from_str), &request.hold) {
        (Some(Ok(release)), _) => Ok(release),
        // The fork was decided, and its process died before it could send the release.
        (_, HoldPolicy::Fork { decision, .. }) if is_decided_for(decision, &id) => Ok(Release::Proceed),
        _ => Err(SupervisorError::Cancelled),
    }
}

fn is_decided_for(decision: &std::path::Path, id: &str) -> bool {
    MachineId::try_from(id.to_owned()).is_ok_and(|id| fork_decision::includes_clone(decision, &id))
}
