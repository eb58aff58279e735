//! Finds the snapshot that a path names.

use mimeo_engine::SnapshotId;
use mimeo_manager_api::{Snapshot, SnapshotState};

use crate::App;
use crate::http::{ApiError, Caller, Result};
use crate::snapshots;

/// The digits of an id that must be given at least.
const MIN_DIGITS: usize = 4;

/// Finds the snapshot that a word names: its tag, its id or the start of its id.
pub(crate) async fn find(app: &App, caller: &Caller, word: &str) -> Result<Snapshot> {
    // Most are known; of those that another client has made or removed, the records are brought up to date first.
    match find_row(app, caller, word).await {
        Ok(item) if item.state == SnapshotState::Creating || exists(app, &item) => return Ok(item),
        Err(error) if error.problem().status != 404 => return Err(error),
        _ => {}
    }
    snapshots::refresh(app).await?;
    find_row(app, caller, word).await
}

/// Finds a snapshot that machines can be started from.
pub(crate) async fn find_ready(app: &App, caller: &Caller, word: &str) -> Result<Snapshot> {
    let item = find(app, caller, word).await?;
    match item.state {
        SnapshotState::Ready => Ok(item),
        SnapshotState::Creating => {
            Err(ApiError::new(409, "snapshot-creating", format!("the snapshot {word:?} is being taken")))
        }
    }
}

fn exists(app: &App, item: &Snapshot) -> bool {
    SnapshotId::try_from(item.id.clone()).is_ok_and(|id| app.engine().snapshots().dir(&id).exists())
}

async fn find_row(app: &App, caller: &Caller, word: &str) -> Result<Snapshot> {
    let missing = || ApiError::not_found("snapshot", word);
    let mut found = app.database().snapshots_named(word, caller.only_owner().as_deref()).await?;
    // A tag precedes the start of an id.
    if let Some(tagged) = found.iter().position(|item| item.tag.as_deref() == Some(word)) {
        return Ok(found.swap_remove(tagged));
    }
    if word.len() < MIN_DIGITS {
        return Err(missing());
    }
    found.retain(|item| item.id.starts_with(word));
    match found.len() {
        0 | 1 => found.pop().ok_or_else(missing),
        _ => {
            let detail = format!("{word:?} is the start of several snapshots' ids");
            Err(ApiError::new(409, "ambiguous-id", detail).with_hint("give more digits"))
        }
    }
}
