//! Finds the machine that a path names.

use mimeo_engine::MachineId;
use mimeo_engine::machine::Found;

use crate::App;
use crate::database::MachineRow;
use crate::http::{ApiError, Caller, Result};
use crate::observe;

/// The digits of an id that must be given at least.
const MIN_DIGITS: usize = 4;

/// Finds the machine that a word names: its name, its id or the start of its id. The row is up to date.
pub(crate) async fn find(app: &App, caller: &Caller, word: &str) -> Result<MachineRow> {
    let row = find_row(app, caller, word).await?;
    let Ok(id) = MachineId::try_from(row.item.id.clone()) else { return Ok(row) };
    observe::refresh(app, &id).await?;
    Ok(app.database().machine(&row.item.id).await?.unwrap_or(row))
}

async fn find_row(app: &App, caller: &Caller, word: &str) -> Result<MachineRow> {
    let missing = || ApiError::not_found("machine", word);
    let mut rows = app.database().machines_named(word).await?;
    rows.retain(|row| caller.sees(&row.item.owner));
    // A name precedes the start of an id.
    if let Some(named) = rows.iter().position(|row| row.item.name == word && row.item.ended_at.is_none()) {
        return Ok(rows.swap_remove(named));
    }
    if word.len() < MIN_DIGITS {
        return Err(missing());
    }
    match rows.len() {
        0 | 1 => rows.pop().ok_or_else(missing),
        _ => {
            let detail = format!("{word:?} is the start of several machines' ids");
            Err(ApiError::new(409, "ambiguous-id", detail).with_hint("give more digits"))
        }
    }
}

/// Finds a machine's record in the engine.
pub(crate) fn in_engine(app: &App, row: &MachineRow) -> Result<Found> {
    let id = MachineId::try_from(row.item.id.clone()).ok();
    let found = id.and_then(|id| app.engine().registry().read(&id));
    found.ok_or_else(|| {
        let (name, state) = (&row.item.name, row.item.state.name());
        ApiError::new(
            409,
            "machine-not-running",
            format!("the machine {name:?} is not running: it is {state}"),
        )
    })
}
