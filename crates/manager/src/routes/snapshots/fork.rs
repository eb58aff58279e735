//! Forks a running machine.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::MachineId;
use mimeo_manager_api::{Accepted, CloneRequest, Machine};

use super::clone::{Source, new_rows, record_and_begin, requests};
use crate::App;
use crate::database::{Desired, MachineRow};
use crate::find_machine;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};
use crate::operations::{self, Begun, NewOperation, OperationRequest, undecided};
use crate::routes::accepted::answer;
use crate::secrets::Secrets;

/// Starts clones of a running machine, which runs on: either all of them or none. The operation's `result` has one entry for
/// each clone (`CloneResults`).
#[utoipa::path(post, path = "/{id}/fork", tag = "snapshots", operation_id = "fork", request_body = CloneRequest,
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until the clones are started; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 201, description = "The clones were started.", body = Accepted<Machine>),
        (status = 202, description = "The clones are being started.", body = Accepted<Machine>),
    ))]
pub(super) async fn fork(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
    Json(request): Json<CloneRequest>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    let row = find_machine::find(&app, &caller, &word).await?;
    let found = find_machine::in_engine(&app, &row)?;
    if !found.record.phase().is_live() {
        let detail = format!("cannot fork {}: it does not run", row.item.name);
        return Err(ApiError::new(409, "machine-not-running", detail).with_hint("start it"));
    }
    let begun = begin(&app, &caller, &row, &request).await?;
    answer(begun, wait, 201).await
}

async fn begin(app: &App, caller: &Caller, row: &MachineRow, request: &CloneRequest) -> Result<Begun> {
    let source = Source::from(&row.item);
    let ids = std::iter::repeat_with(MachineId::random);
    let rows = new_rows(caller, &source, requests(request, &source)?, ids)?;
    let machines: Vec<_> = rows.iter().map(|row| row.item.id.clone()).collect();
    let (result, request) = (undecided(&machines), OperationRequest::Fork { machines });
    let mut write = app.database().write().await?;
    let before = write.machine(&row.item.id).await?;
    let before = before.filter(|row| row.desired == Desired::Present);
    let before = before.ok_or_else(|| ApiError::not_found("machine", &row.item.name))?;
    operations::check_idle(app, &before, &request)?;
    let operation = NewOperation::on_machine(request, &before.item, &caller.name).with_result(result);
    let mut changed = before.clone();
    changed.item.operation = Some(operation.id().to_owned());
    write.store_machine(&mut changed, &before).await?;
    let live = record_and_begin(app, write, operation, rows, Secrets::default()).await?;
    Ok(Begun { machine: changed.item, live })
}
