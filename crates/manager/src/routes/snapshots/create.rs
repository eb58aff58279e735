//! Takes a snapshot of a machine.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_engine::machine::Found;
use mimeo_engine::{MachineName, SnapshotId};
use mimeo_manager_api::{Accepted, CreateSnapshot, ResourceKind, Snapshot};

use crate::App;
use crate::database::{DatabaseError, Desired, MachineRow, resource};
use crate::find_machine;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};
use crate::live::LiveOperation;
use crate::operations::{self, NewOperation, OperationRequest};
use crate::problems::store_problem;
use crate::routes::accepted::answer_with;
use crate::secrets::Secrets;
use crate::snapshots;

/// Takes a snapshot of a machine, which runs on: of its memory, its devices and its disks; of its disks if it does not run.
#[utoipa::path(post, path = "/{id}/snapshots", tag = "snapshots", operation_id = "create_snapshot", request_body = CreateSnapshot,
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until the snapshot is taken; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 201, description = "The snapshot was taken.", body = Accepted<Snapshot>),
        (status = 202, description = "The snapshot is being taken.", body = Accepted<Snapshot>),
    ))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
    Json(request): Json<CreateSnapshot>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    let row = find_machine::find(&app, &caller, &word).await?;
    let found = find_machine::in_engine(&app, &row)?;
    check(&app, &found, &request)?;
    let (item, live) = begin(&app, &caller, &row, &found, request).await?;
    let id = item.id.clone();
    let reload = async { Ok(app.database().snapshots_named(&id, None).await?.pop()) };
    answer_with(item, &live, wait, 201, reload).await
}

/// Refuses what cannot succeed.
fn check(app: &App, found: &Found, request: &CreateSnapshot) -> Result<()> {
    operations::check_contents(found, request.kind)?;
    if !found.record.spec.volumes.is_empty() {
        let detail = format!("cannot save {}: it has directories of the host", found.record.name);
        return Err(ApiError::new(409, "snapshot-unsupported", detail).with_hint("use named volumes instead"));
    }
    if let Some(tag) = &request.tag {
        let tag: MachineName = tag
            .parse()
            .map_err(|error| ApiError::new(422, "invalid-field", format!("cannot use tag: {error}")))?;
        app.engine().snapshots().check_tag(&tag).map_err(|error| store_problem(&error))?;
    }
    let origin = found.record.origin.as_ref().filter(|_| found.record.phase().is_live());
    if let Some(origin) = origin.filter(|origin| app.engine().snapshots().read(origin).is_err()) {
        let detail = format!(
            "cannot save {}: it was restored from snapshot {}, which was removed",
            found.record.name,
            origin.short()
        );
        return Err(ApiError::new(409, "parent-missing", detail));
    }
    Ok(())
}

async fn begin(
    app: &App,
    caller: &Caller,
    row: &MachineRow,
    found: &Found,
    request: CreateSnapshot,
) -> Result<(Snapshot, LiveOperation)> {
    let CreateSnapshot { tag, kind, labels } = request;
    let id = SnapshotId::random().to_string();
    let item = snapshots::requested(id, tag, labels, &row.item.owner, found);
    let request = OperationRequest::Snapshot { machine: row.item.id.clone(), contents: kind };
    let subject = resource(ResourceKind::Snapshot, &*item.id);
    let name = item.tag.as_deref().unwrap_or(&item.id);
    let operation = NewOperation::new(request.clone(), subject, &item.owner, name, &caller.name);
    let mut write = app.database().write().await?;
    let before = write.machine(&row.item.id).await?;
    let before = before.filter(|row| row.desired == Desired::Present);
    let before = before.ok_or_else(|| ApiError::not_found("machine", &row.item.name))?;
    operations::check_idle(app, &before, &request)?;
    let mut changed = before.clone();
    changed.item.operation = Some(operation.id().to_owned());
    write.store_machine(&mut changed, &before).await?;
    write.add_snapshot(&item, snapshots::expected_bytes(found)).await.map_err(|error| match error {
        DatabaseError::Duplicate => tag_taken(&item),
        other => other.into(),
    })?;
    let live = operation.commit(app, write, Secrets::default()).await?;
    Ok((item, live))
}

fn tag_taken(item: &Snapshot) -> ApiError {
    let tag = item.tag.as_deref().unwrap_or_default();
    ApiError::new(409, "tag-taken", format!("the tag {tag:?} is in use by another snapshot"))
        .with_hint("choose another tag, or remove that snapshot")
}
