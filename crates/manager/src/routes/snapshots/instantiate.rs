//! Starts clones of a snapshot.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::MachineId;
use mimeo_manager_api::{Accepted, CloneRequest, ResourceKind, Snapshot};

use super::clone::{Source, add_rows, new_row, requests};
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
    let mut ids: Vec<_> = reservation.iter().flat_map(|reservation| reservation.ids.clone()).collect();
    ids.resize_with(requests.len(), MachineId::random);
    let rows = ids.iter().zip(requests);
    let mut rows = rows
        .map(|(id, request)| new_row(caller, id.to_string(), request, &source))
        .collect::<Result<Vec<_>>>()?;
    let machines: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let name = item.tag.as_deref().unwrap_or(&item.id);
    let (result, request) = (undecided(&machines), OperationRequest::Instantiate { machines });
    let subject = resource(ResourceKind::Snapshot, &*item.id);
    // The clones are the caller's, although another user may have taken the snapshot.
    let operation = NewOperation::new(request, subject, &caller.name, name, &caller.name).with_result(result);
    let mut write = app.database().write().await?;
    add_rows(&mut write, &mut rows, operation.id()).await?;
    operation.record(&mut write).await?;
    write.commit().await?;
    Ok(operation.begin(app, Secrets { reservation, ..Secrets::default() }))
}
