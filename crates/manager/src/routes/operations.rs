//! Operations.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, Items, Operation, OperationStatus};
use utoipa_axum::routes;

use crate::App;
use crate::database::{OperationFilter, OperationRow};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Routes, page, wait};

/// Seconds that a request waits for an operation by default.
const DEFAULT_WAIT_SECONDS: f64 = 60.0;

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Read, routes!(list))
        .add(Policy::Read, routes!(get))
        .add(Policy::Read, routes!(wait))
        .add(Policy::Write, routes!(cancel))
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<OperationRow> {
    let row = app.database().operation(id).await?.filter(|row| caller.sees(&row.owner));
    let mut row = row.ok_or_else(|| ApiError::not_found("operation", id))?;
    row.item = app.operations().current(row.item);
    Ok(row)
}

/// Lists operations, the newest first.
#[utoipa::path(get, path = "/", tag = "operations", operation_id = "list_operations",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("status" = Option<OperationStatus>, Query, description = "Only operations with this status"),
        ("resource" = Option<String>, Query, description = "Only operations on the resource with this id"),
        ("owner" = Option<String>, Query, description = "Only operations on resources of this user"),
    ),
    responses((status = 200, description = "A page of operations.", body = Items<Operation>)))]
async fn list(State(app): State<App>, caller: Caller, mut query: Query) -> Result<Json<Items<Operation>>> {
    let limit = page::limit(&mut query)?;
    let filter = OperationFilter {
        owner: super::machines::owner(&mut query, &caller)?,
        status: query.take("status")?.map(|text| status(&text)).transpose()?,
        resource: query.take("resource")?,
        after: page::cursor(&mut query)?,
        limit: limit + 1,
    };
    query.finish()?;
    let rows = app.database().operations(&filter).await?;
    let item = |row: OperationRow| app.operations().current(row.item);
    Ok(Json(page::page(rows, limit, OperationRow::place, item)))
}

fn status(text: &str) -> Result<String> {
    let parsed: std::result::Result<OperationStatus, _> = serde_json::from_value(text.into());
    match parsed {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(ApiError::invalid(format!("status: {error}"))),
    }
}

/// Reads an operation.
#[utoipa::path(get, path = "/{id}", tag = "operations", operation_id = "get_operation",
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 200, description = "The operation.", body = Item<Operation>)))]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Item<Operation>>> {
    query.finish()?;
    Ok(Json(Item { item: find(&app, &caller, &id).await?.item }))
}

/// Waits until an operation has finished. If the time is over, answers with the operation as it is then.
#[utoipa::path(get, path = "/{id}/wait", tag = "operations", operation_id = "wait_for_operation",
    params(
        ("id" = String, Path, description = "The operation's id"),
        ("timeout" = Option<f64>, Query, description = "Seconds to wait; 60 by default", minimum = 0, maximum = 300),
    ),
    responses((status = 200, description = "The operation.", body = Item<Operation>)))]
async fn wait(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    mut query: Query,
) -> Result<Json<Item<Operation>>> {
    let timeout = wait::seconds(&mut query, "timeout", DEFAULT_WAIT_SECONDS)?;
    query.finish()?;
    let row = find(&app, &caller, &id).await?;
    let item = match app.operations().get(&id) {
        Some(live) => live.wait(timeout).await,
        // It may have finished meanwhile.
        None => find(&app, &caller, &row.item.id).await?.item,
    };
    Ok(Json(Item { item }))
}

/// Cancels an operation. What it has done is undone; the answer comes when that is so.
#[utoipa::path(delete, path = "/{id}", tag = "operations", operation_id = "cancel_operation",
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 200, description = "The operation.", body = Item<Operation>)))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Item<Operation>>> {
    query.finish()?;
    let row = find(&app, &caller, &id).await?;
    let Some(live) = app.operations().get(&id) else {
        return Err(ApiError::new(409, "operation-finished", format!("the operation {id} has finished")));
    };
    if !row.item.may_cancel {
        return Err(ApiError::new(409, "not-cancellable", format!("the operation {id} cannot be cancelled")));
    }
    live.cancel.cancel();
    let item = live.wait(std::time::Duration::from_secs_f64(DEFAULT_WAIT_SECONDS)).await;
    Ok(Json(Item { item }))
}
