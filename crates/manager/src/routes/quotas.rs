//! Quotas of users.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, Quota, QuotaReport, ResourceKind};
use serde_json::json;
use utoipa_axum::routes;

use crate::App;
use crate::database::{EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Routes};

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Authenticated, routes!(own))
        .add(Policy::Admin, routes!(get))
        .add(Policy::Admin, routes!(set))
}

async fn report(app: &App, user: String) -> Result<Json<Item<QuotaReport>>> {
    let (quota, usage) = app.database().quota(&user).await?;
    Ok(Json(Item { item: QuotaReport { user, quota, usage } }))
}

/// Reads the caller's quota, and what is used of it.
#[utoipa::path(get, path = "/v1/quota", tag = "users", operation_id = "get_own_quota",
    responses((status = 200, description = "The quota.", body = Item<QuotaReport>)))]
async fn own(State(app): State<App>, caller: Caller, query: Query) -> Result<Json<Item<QuotaReport>>> {
    query.finish()?;
    report(&app, caller.name).await
}

async fn user_name(app: &App, word: &str) -> Result<String> {
    let user = app.database().user(word).await?;
    Ok(user.ok_or_else(|| ApiError::not_found("user", word))?.name)
}

/// Reads a user's quota, and what is used of it.
#[utoipa::path(get, path = "/v1/users/{id}/quota", tag = "users", operation_id = "get_quota",
    params(("id" = String, Path, description = "The user's name or id")),
    responses((status = 200, description = "The quota.", body = Item<QuotaReport>)))]
async fn get(
    State(app): State<App>,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<QuotaReport>>> {
    query.finish()?;
    let user = user_name(&app, &word).await?;
    report(&app, user).await
}

/// Sets a user's quota. Machines that exist are not affected.
#[utoipa::path(put, path = "/v1/users/{id}/quota", tag = "users", operation_id = "set_quota", request_body = Quota,
    params(("id" = String, Path, description = "The user's name or id")),
    responses((status = 200, description = "The quota.", body = Item<QuotaReport>)))]
async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(quota): Json<Quota>,
) -> Result<Json<Item<QuotaReport>>> {
    query.finish()?;
    let user = user_name(&app, &word).await?;
    let mut write = app.database().write().await?;
    write.set_quota(&user, &quota).await?;
    let (actor, resource) = (&*caller.name, resource(ResourceKind::User, &*user));
    write
        .event(EventDraft { kind: "user.quota_set", actor, owner: &user, resource, data: json!(quota) })
        .await?;
    write.commit().await?;
    report(&app, user).await
}
