//! Reads one machine, at once or when it has reached a state.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_manager_api::{Item, Machine, MachineState};

use crate::App;
use crate::database::MachineRow;
use crate::find_machine::find;
use crate::http::etag::with_etag;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};

/// Seconds that a request waits for a state by default.
const DEFAULT_WAIT_SECONDS: f64 = 60.0;

/// Reads a machine.
#[utoipa::path(get, path = "/{id}", tag = "machines", operation_id = "get",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The machine.", body = Item<Machine>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    Ok(with_etag(row.item.version, Json(Item { item: row.item })))
}

/// Waits until a machine has reached a state.
#[utoipa::path(get, path = "/{id}/wait", tag = "machines", operation_id = "wait",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("state" = Option<String>, Query, description = "States, separated by commas; any settled state by default"),
        ("timeout" = Option<f64>, Query, description = "Seconds to wait; 60 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine, in that state.", body = Item<Machine>),
        (status = 408, description = "The machine has not reached that state in time."),
    ))]
pub(super) async fn wait(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<Response> {
    let states = super::list::states(&mut query)?;
    let timeout = wait::seconds(&mut query, "timeout", DEFAULT_WAIT_SECONDS)?;
    query.finish()?;
    let mut changes = app.database().last_event();
    let mut row = find(&app, &caller, &word).await?;
    let deadline = tokio::time::Instant::now() + timeout;
    while !is_reached(row.item.state, &states) {
        if let Some(state) = unreachable_from(&row) {
            let detail = format!("the machine {:?} will not reach that state: it is {state}", row.item.name);
            return Err(ApiError::new(409, "state-unreachable", detail));
        }
        if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            let detail = format!("the machine {:?} is still {}", row.item.name, row.item.state.name());
            return Err(ApiError::new(408, "wait-timeout", detail));
        }
        row = app.database().machine(&row.item.id).await?.unwrap_or(row);
    }
    Ok(with_etag(row.item.version, Json(Item { item: row.item })))
}

fn is_reached(state: MachineState, states: &[MachineState]) -> bool {
    if states.is_empty() { state.is_settled() } else { states.contains(&state) }
}

/// A machine that was removed reaches no other state.
fn unreachable_from(row: &MachineRow) -> Option<&'static str> {
    row.item.ended_at.map(|_| row.item.state.name())
}
