//! Finds the machine that a request names.

use mimeo_engine::MachineId;
use mimeo_engine::machine::Found;
use mimeo_manager_api::MachineState;

use crate::App;
use crate::api_error::{ApiError, Result};
use crate::caller::Caller;
use crate::database::{DatabaseError, MachineRow};
use crate::observe;

/// The digits of an id that must be given at least.
const MIN_DIGITS: usize = 4;

/// Finds the machine that a word names: its name, its id or the start of its id. The row is up to date.
pub(crate) async fn find(app: &App, caller: &Caller, word: &str) -> Result<MachineRow> {
    let mut row = find_row(app, caller, word).await?;
    let Ok(id) = MachineId::try_from(row.item.id.clone()) else { return Ok(row) };
    match observe::refresh(app, &id).await {
        // It can be seen, though not recorded yet.
        Err(DatabaseError::Full(_)) => {
            observe::apply(app, &mut row);
            Ok(row)
        }
        refreshed => {
            refreshed?;
            Ok(app.database().machine(&row.item.id).await?.unwrap_or(row))
        }
    }
}

async fn find_row(app: &App, caller: &Caller, word: &str) -> Result<MachineRow> {
    let missing = || ApiError::not_found("machine", word);
    let mut rows = app.database().machines_named(word, caller.only_owner().as_deref()).await?;
    // A name precedes the start of an id.
    if let Some(named) = rows.iter().position(|row| row.item.name == word && row.item.ended_at.is_none()) {
        return Ok(rows.swap_remove(named));
    }
    if word.len() < MIN_DIGITS {
        return Err(missing());
    }
    rows.retain(|row| row.item.id.starts_with(word));
    match rows.len() {
        0 | 1 => rows.pop().ok_or_else(missing),
        _ => {
            let detail = format!("{word:?} is the start of several machines' ids");
            Err(ApiError::new(409, "ambiguous-id", detail).with_hint("give more digits"))
        }
    }
}

/// Finds the record of a machine that is to do something.
pub(crate) fn in_engine(app: &App, row: &MachineRow) -> Result<Found> {
    read(app, row).ok_or_else(|| missing(row, "machine-not-running"))
}

/// Finds the record of a machine, whether it runs or not.
pub(crate) fn recorded(app: &App, row: &MachineRow) -> Result<Found> {
    read(app, row).ok_or_else(|| missing(row, "machine-creating"))
}

fn read(app: &App, row: &MachineRow) -> Option<Found> {
    let id = MachineId::try_from(row.item.id.clone()).ok()?;
    app.engine().registry().read(&id)
}

fn missing(row: &MachineRow, code: &str) -> ApiError {
    let (name, state) = (&row.item.name, row.item.state);
    match state {
        _ if row.item.ended_at.is_some() => {
            ApiError::new(410, "machine-deleted", format!("the machine {name:?} was removed"))
        }
        MachineState::Failed => {
            ApiError::new(409, "machine-failed", format!("the machine {name:?} could not be created"))
        }
        _ => {
            ApiError::new(409, code, format!("the machine {name:?} does not run yet: it is {}", state.name()))
        }
    }
}

/// Finds the record of a machine that runs. One whose supervisor still cleans up after it does not.
pub(crate) fn running_in_engine(app: &App, row: &MachineRow) -> Result<Found> {
    let found = in_engine(app, row)?;
    if found.supervised && found.record.phase().is_live() {
        return Ok(found);
    }
    Err(ApiError::new(409, "machine-not-running", format!("the machine {:?} is not running", row.item.name)))
}
