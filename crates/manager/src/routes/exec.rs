//! Runs a command in a machine, and answers with its output and its exit code.

use axum::extract::{Path, State};
use mimeo_manager_api::{ExecRequest, ExecResult, Item, ResourceKind};

use crate::App;
use crate::audit::audit;
use crate::database::resource;
use crate::find_machine;
use crate::guest;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::run_command;

/// Runs a command in a running machine's container.
#[utoipa::path(post, path = "/{id}/exec", tag = "machines", operation_id = "exec", request_body = ExecRequest,
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The command has ended.", body = Item<ExecResult>)))]
pub(crate) async fn exec(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(request): Json<ExecRequest>,
) -> Result<Json<Item<ExecResult>>> {
    query.finish()?;
    if request.tty || request.interactive {
        return Err(ApiError::new(422, "invalid-field", "tty and interactive need a WebSocket: GET …/exec"));
    }
    let row = find_machine::find(&app, &caller, &word).await?;
    let found = find_machine::in_engine(&app, &row)?;
    let program = request.command.first();
    let data = serde_json::json!({ "name": row.item.name, "program": program });
    let machine = resource(ResourceKind::Machine, &*row.item.id);
    let connect = async {
        let auditing = audit(&app, &caller, "machine.exec", &row.item.owner, machine, data);
        // Both at once, and the record is complete also if the machine does not answer.
        let (audited, client) = tokio::join!(auditing, guest::connect(&app, &found));
        audited?;
        client
    };
    Ok(Json(Item { item: run_command::run(&app, &found, request, connect).await? }))
}
