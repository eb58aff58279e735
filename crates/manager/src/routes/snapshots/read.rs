//! Reads snapshots.

use axum::extract::{Path, State};
use axum::response::Response;
use mimeo_manager_api::{Item, Items, Snapshot};

use super::find::find;
use crate::App;
use crate::database::{SnapshotFilter, Sort, place_of_snapshot};
use crate::find_machine;
use crate::http::etag::with_etag;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, page};
use crate::routes::machines;
use crate::snapshots;

/// Lists snapshots that users have taken, a page at a time.
#[utoipa::path(get, path = "/", tag = "snapshots", operation_id = "list_snapshots",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("label" = Option<Vec<String>>, Query, description = "`KEY` or `KEY=VALUE`; can be repeated"),
        ("tag" = Option<String>, Query, description = "Only the snapshot with this tag"),
        ("owner" = Option<String>, Query, description = "Only snapshots of this user"),
        ("sort" = Option<String>, Query, description = "`created`, `-created`, `tag` or `-tag`; `created` by default"),
    ),
    responses((status = 200, description = "A page of snapshots.", body = Items<Snapshot>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Query,
) -> Result<Json<Items<Snapshot>>> {
    list_filtered(&app, &caller, query, None).await
}

/// Lists the snapshots of a machine, a page at a time.
#[utoipa::path(get, path = "/{id}/snapshots", tag = "snapshots", operation_id = "list_snapshots",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("label" = Option<Vec<String>>, Query, description = "`KEY` or `KEY=VALUE`; can be repeated"),
        ("tag" = Option<String>, Query, description = "Only the snapshot with this tag"),
        ("owner" = Option<String>, Query, description = "Only snapshots of this user"),
        ("sort" = Option<String>, Query, description = "`created`, `-created`, `tag` or `-tag`; `created` by default"),
    ),
    responses((status = 200, description = "A page of snapshots.", body = Items<Snapshot>)))]
pub(super) async fn list_of_machine(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Items<Snapshot>>> {
    let machine = find_machine::find(&app, &caller, &word).await?.item.id;
    list_filtered(&app, &caller, query, Some(machine)).await
}

async fn list_filtered(
    app: &App,
    caller: &Caller,
    mut query: Query,
    machine: Option<String>,
) -> Result<Json<Items<Snapshot>>> {
    let limit = page::limit(&mut query)?;
    let sort = sort(&mut query)?;
    let filter = SnapshotFilter {
        owner: machines::owner(&mut query, caller)?,
        tag: query.take("tag")?,
        machine,
        labels: machines::labels(&mut query)?,
        sort,
        after: page::cursor(&mut query)?,
        limit: limit + 1,
    };
    query.finish()?;
    snapshots::refresh(app).await?;
    let found = app.database().snapshots(&filter).await?;
    Ok(Json(page::page(found, limit, |item| place_of_snapshot(item, sort), |item| item)))
}

fn sort(query: &mut Query) -> Result<Sort> {
    let Some(text) = query.take("sort")? else { return Ok(Sort::default()) };
    let (descending, key) = text.strip_prefix('-').map_or((false, text.as_str()), |key| (true, key));
    match key {
        "created" => Ok(Sort { by_name: false, descending }),
        "tag" => Ok(Sort { by_name: true, descending }),
        _ => Err(ApiError::invalid(format!("cannot sort by {text:?}: write created, -created, tag or -tag"))),
    }
}

/// Reads a snapshot.
#[utoipa::path(get, path = "/{id}", tag = "snapshots", operation_id = "get_snapshot",
    params(("id" = String, Path, description = "The snapshot: its tag, its id or the start of its id")),
    responses((status = 200, description = "The snapshot.", body = Item<Snapshot>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let item = find(&app, &caller, &word).await?;
    Ok(with_etag(item.version, Json(Item { item })))
}
