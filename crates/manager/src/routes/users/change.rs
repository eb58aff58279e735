//! `PATCH /v1/users/NAME`.

use axum::extract::{Path, State};
use mimeo_manager_api::{Item, PatchUser, ResourceKind, User};
use serde_json::json;

use crate::App;
use crate::database::{EventDraft, resource};
use crate::http::query::Query;
use crate::http::{Caller, Json, Result, Rights};

/// Changes a user's role, or disables a user, whose tokens are refused then.
#[utoipa::path(patch, path = "/{id}", tag = "users", operation_id = "patch_user", request_body = PatchUser,
    params(("id" = String, Path, description = "The user's name or id")),
    responses((status = 200, description = "The user.", body = Item<User>)))]
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    Path(word): Path<String>,
    query: Query,
    Json(request): Json<PatchUser>,
) -> Result<Json<Item<User>>> {
    query.finish()?;
    let mut write = app.database().write().await?;
    // Nothing changes them any more before the commit.
    rights.check_changes().await?;
    let before = super::find(&app, &word).await?;
    let mut user = before.clone();
    user.role = request.role.unwrap_or(before.role);
    user.disabled = request.disabled.unwrap_or(before.disabled);
    if user == before {
        return Ok(Json(Item { item: user }));
    }
    write.store_user(&user).await?;
    super::check_admin_left(&mut write).await?;
    let data = json!({ "name": user.name, "role": user.role, "disabled": user.disabled });
    let (kind, resource) = ("user.changed", resource(ResourceKind::User, &*user.id));
    write.event(EventDraft { kind, actor: &caller.name, owner: &user.name, resource, data }).await?;
    write.commit().await?;
    Ok(Json(Item { item: user }))
}
