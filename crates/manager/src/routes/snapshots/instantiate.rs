//! Starts clones of a snapshot.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::MachineId;
use mimeo_manager_api::{Accepted, CloneRequest, ResourceKind, Snapshot};

use super::clone::{Source, new_rows, record_and_begin, requests};
use super::find::find_ready;
use crate::App;
use crate::database::resource;
use crate::http::query::Query;
use crate::http::{Caller, Json, Result, wait};
use crate::live::LiveOperation;
use crate::operations::{NewOperation, OperationRequest, undecided};
use crate::routes::accepted::answer_with;
use crate::secrets::Secrets;

/// Starts clones of a snapshot. Each succeeds or fails by itself: the operation's `result` has one entry for each
/// (`CloneResults`), and the operation fails only if no clone runs. Clones are taken from the snapshot's pool, if it has one.
#[utoipa::path(post, path = "/{id}/instantiate", tag = "snapshots", operation_id = "instantiate_snapshot", request_body = CloneRequest,
    params(
        ("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until all clones are started; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 201, description = "Clones were started.", body = Accepted<Snapshot>),
        (status = 202, description = "Clones are being started.", body = Accepted<Snapshot>),
    ))]
pub(super) async fn instantiate(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
    Json(request): Json<CloneRequest>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    let item = find_ready(&app, &caller, &word).await?;
    let live = begin(&app, &caller, &item, &request).await?;
    answer_with(item, &live, wait, 201, async { Ok(None) }).await
}

async fn begin(app: &App, caller: &Caller, item: &Snapshot, request: &CloneRequest) -> Result<LiveOperation> {
    let source = Source::from(item);
    let requests = requests(request, &source)?;
    let reservation = app.pools().reserve(&item.id, requests.len()).await;
    let reserved = reservation.iter().flat_map(|reservation| reservation.ids.clone());
    let ids = reserved.chain(std::iter::repeat_with(MachineId::random));
    let rows = new_rows(caller, &source, requests, ids)?;
    let machines: Vec<_> = rows.iter().map(|row| row.item.id.clone()).collect();
    let name = item.tag.as_deref().unwrap_or(&item.id);
    let (result, request) = (undecided(&machines), OperationRequest::Instantiate { machines });
    let subject = resource(ResourceKind::Snapshot, &*item.id);
    // The clones are the caller's, although another user may have taken the snapshot.
    let operation = NewOperation::new(request, subject, &caller.name, name, &caller.name).with_result(result);
    let write = app.database().write().await?;
    let secrets = Secrets { reservation, ..Secrets::default() };
    record_and_begin(app, write, operation, rows, secrets).await
}
