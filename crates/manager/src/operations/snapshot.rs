//! Takes a snapshot of a machine.

use mimeo_engine::cause::chain;
use mimeo_engine::machine::Found;
use mimeo_engine::snapshot::Snapshot as Saved;
use mimeo_engine::{MachineId, MachineName, SnapshotId, act, garbage};
use mimeo_manager_api::{Problem, SnapshotKind};

use super::finish::Outcome;
use super::lifecycle;
use crate::App;
use crate::database::DatabaseError;
use crate::problems;
use crate::snapshots;

/// Takes the snapshot whose row exists. Its id makes the request idempotent: one that an earlier manager has requested is not
/// taken again.
pub(super) async fn take(
    app: &App,
    snapshot: &str,
    machine: &str,
    contents: Option<SnapshotKind>,
) -> Outcome {
    let Ok(id) = SnapshotId::try_from(snapshot.to_owned()) else { return Outcome::Cancelled };
    let taken = tokio::select! {
        taken = try_take(app, &id, machine, contents) => taken,
        () = app.end().cancelled() => return Outcome::Interrupted,
    };
    let recorded = match &taken {
        Ok(saved) => snapshots::record_taken(app, saved).await.map(Some),
        Err(_) => snapshots::forget(app, snapshot).await.map(|()| None),
    };
    match (taken, recorded) {
        (Err(problem), _) => Outcome::failed(problem),
        (Ok(_), Ok(item)) => Outcome::Produced(serde_json::to_value(item).unwrap_or_default()),
        (Ok(_), Err(error)) => Outcome::from(error),
    }
}

async fn try_take(
    app: &App,
    id: &SnapshotId,
    machine: &str,
    contents: Option<SnapshotKind>,
) -> Result<Saved, Problem> {
    let store = app.engine().snapshots();
    if let Ok(saved) = store.read(id) {
        return Ok(saved);
    }
    let found = MachineId::try_from(machine.to_owned()).ok().and_then(|id| app.engine().registry().read(&id));
    let found = found.ok_or_else(lifecycle::gone_problem)?;
    check_contents(&found, contents).map_err(|problem| *problem)?;
    let tag =
        tag(app, id).await.map_err(|error| crate::api_error::ApiError::from(error).problem().clone())?;
    let taken = act::snapshot_as(app.engine(), &found, tag, id.clone()).await;
    taken.map_err(|error| problems::act_problem(&error))?;
    let saved = store.read(id).map_err(|error| Problem::new(500, "snapshot-unreadable", chain(&error)))?;
    let actual = snapshots::kind(&saved.manifest);
    if contents.is_some_and(|contents| contents != actual) {
        // The driver could not save what it usually can.
        discard(app, &saved);
        return Err(unavailable(&found, contents, actual));
    }
    Ok(saved)
}

async fn tag(app: &App, id: &SnapshotId) -> Result<Option<MachineName>, DatabaseError> {
    let row = app.database().snapshots_named(id.as_str(), None).await?.pop();
    Ok(row.and_then(|row| row.tag).and_then(|tag| tag.parse().ok()))
}

/// Refuses a kind that a snapshot of this machine cannot be.
pub(crate) fn check_contents(found: &Found, contents: Option<SnapshotKind>) -> Result<(), Box<Problem>> {
    let possible = match &found.record.origin {
        _ if !found.record.phase().is_live() => SnapshotKind::Disk,
        Some(_) => SnapshotKind::Diff,
        None => SnapshotKind::Full,
    };
    match contents {
        Some(contents) if contents != possible => Err(Box::new(unavailable(found, Some(contents), possible))),
        _ => Ok(()),
    }
}

fn unavailable(found: &Found, contents: Option<SnapshotKind>, possible: SnapshotKind) -> Problem {
    let name = &found.record.name;
    let reason = match possible {
        SnapshotKind::Disk => "it does not run, so it has no memory".to_owned(),
        SnapshotKind::Diff => {
            let origin = found.record.origin.as_ref().map(|origin| origin.short()).unwrap_or_default();
            format!("it was restored from snapshot {origin}, so only what differs from that one is saved")
        }
        SnapshotKind::Full => "it was booted, so all of its memory is saved".to_owned(),
    };
    let (asked, possible) = (contents.map(|kind| problems::name_of(&kind)), problems::name_of(&possible));
    let detail = format!("cannot take a {} snapshot of {name}: {reason}", asked.unwrap_or_default());
    Problem::new(409, "snapshot-kind-unavailable", detail)
        .with_hint(format!("leave the kind out, or request {possible:?}"))
}

fn discard(app: &App, saved: &Saved) {
    if let Err(error) = garbage::remove(app.engine(), saved) {
        tracing::warn!(component = "snapshots", error = chain(&error), "cannot remove an unwanted snapshot");
    }
}
