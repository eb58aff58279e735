//! `POST …/kill`: sends a machine's container a signal.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::{act, signal};
use mimeo_manager_api::{Item, KillRequest, Machine, ResourceKind};
use serde_json::json;

use crate::App;
use crate::audit::audit;
use crate::database::resource;
use crate::find_machine::{find, in_engine};
use crate::http::etag::with_etag;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::problems;

/// Sends a running machine's container a signal.
#[utoipa::path(post, path = "/{id}/kill", tag = "machines", operation_id = "kill", request_body = KillRequest,
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The signal was sent.", body = Item<Machine>)))]
pub(super) async fn kill(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(request): Json<KillRequest>,
) -> Result<Response> {
    query.finish()?;
    let signal = signal::parse(request.signal.as_deref().unwrap_or("KILL"))
        .map_err(|error| ApiError::new(422, "invalid-field", format!("signal: {error}")))?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    let (owner, machine) = (&row.item.owner, resource(ResourceKind::Machine, &*row.item.id));
    audit(&app, &caller, "machine.kill_requested", owner, machine, json!({ "signal": signal })).await?;
    act::kill(app.engine(), &found, signal).await.map_err(|error| problems::act_problem(&error))?;
    let item = find(&app, &caller, &row.item.id).await?.item;
    Ok(with_etag(item.version, Json(Item { item })))
}
