//! Starts one clone of a snapshot: a machine whose row has its id and its settings.

use std::time::Duration;

use mimeo_engine::act::{self, SpawnError};
use mimeo_engine::launch_request::{CloneInfo, StartFailureKind};
use mimeo_engine::machine::{CloneOverrides, Phase};
use mimeo_engine::snapshot_server::Reservation;
use mimeo_engine::{MachineId, SnapshotId};

use super::finish::Outcome;
use crate::App;
use crate::convert::{self, ConvertError};
use crate::database::MachineRow;
use crate::live::LiveOperation;

/// How long a pool may take to release clones.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a clone is started again, while the supervisor of an earlier attempt still undoes it.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// What the clone of this row does not take over from its snapshot.
pub(super) fn overrides(row: &MachineRow) -> Result<CloneOverrides, ConvertError> {
    let request = row.spec.clone().unwrap_or_default();
    let id = MachineId::try_from(row.item.id.clone()).ok();
    Ok(CloneOverrides { id, ..convert::clone_overrides(&request)? })
}

/// Starts the clone, unless an earlier manager has started it. Returns `None` if the operation was cancelled and the start
/// is undone.
pub(super) async fn start(
    app: &App,
    live: &LiveOperation,
    snapshot: &SnapshotId,
    overrides: CloneOverrides,
) -> Option<Result<(), SpawnError>> {
    while !live.cancel.is_cancelled() {
        let found = overrides.id.as_ref().and_then(|id| app.engine().registry().read(id));
        match found {
            Some(found) if found.record.phase() != Phase::Creating => return Some(Ok(())),
            // Another process still makes or undoes it.
            Some(_) => tokio::time::sleep(RETRY_DELAY).await,
            None => match start_now(app, live, snapshot, overrides.clone()).await {
                Err(error) if error.kind() == StartFailureKind::IdTaken => {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                started => return started.map(|info| info.map(drop)).transpose(),
            },
        }
    }
    None
}

async fn start_now(
    app: &App,
    live: &LiveOperation,
    snapshot: &SnapshotId,
    overrides: CloneOverrides,
) -> Result<Option<CloneInfo>, SpawnError> {
    act::clone_unless(app.engine(), snapshot, overrides, live.cancel.cancelled()).await
}

/// Starts clones that are reserved in a pool. One whose process has ended meanwhile is `Gone`: [`start`] starts another.
pub(super) async fn release(
    reservation: Reservation,
    clones: Vec<CloneOverrides>,
) -> Vec<Result<(), SpawnError>> {
    let count = clones.len();
    let named = |overrides: CloneOverrides| Some((overrides.id.clone()?, overrides));
    let released = reservation.release(clones.into_iter().filter_map(named).collect());
    let Ok(released) = tokio::time::timeout(RELEASE_TIMEOUT, released).await else {
        tracing::warn!(component = "pools", "a pool does not answer: starting the clones without it");
        return (0..count).map(|_| Err(SpawnError::Gone)).collect();
    };
    match released {
        Ok(cloned) => cloned.into_iter().map(|cloned| cloned.outcome.map(drop)).collect(),
        Err(error) => {
            let error = mimeo_engine::cause::chain(&error);
            tracing::warn!(component = "pools", error, "a pool has ended: starting the clones without it");
            (0..count).map(|_| Err(SpawnError::Gone)).collect()
        }
    }
}

/// Creates a machine that is a clone.
pub(super) async fn create(
    app: &App,
    live: &LiveOperation,
    row: &MachineRow,
    snapshot: &str,
    reservation: Option<Reservation>,
) -> Outcome {
    let overrides = match overrides(row) {
        Ok(overrides) => overrides,
        Err(error) => return Outcome::failed(crate::problems::invalid_field(&error)),
    };
    let Ok(snapshot) = SnapshotId::try_from(snapshot.to_owned()) else { return Outcome::Cancelled };
    if let Some(reservation) = reservation {
        // It takes milliseconds, and nothing can stop the pool then: it is not cancelled.
        let released = tokio::select! {
            mut released = release(reservation, vec![overrides.clone()]) => released.pop(),
            () = app.end().cancelled() => return Outcome::Interrupted,
        };
        if let Some(Ok(())) = released {
            return Outcome::Succeeded;
        }
    }
    tokio::select! {
        started = start(app, live, &snapshot, overrides) => match started {
            Some(Ok(())) => Outcome::Succeeded,
            Some(Err(error)) => Outcome::from(&error),
            None => Outcome::Cancelled,
        },
        () = app.end().cancelled() => Outcome::Interrupted,
    }
}
