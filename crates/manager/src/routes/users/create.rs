//! `POST /v1/users`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::{CreateUser, Item, ResourceKind, User};
use serde_json::json;

use crate::App;
use crate::caller::LOCAL;
use crate::database::{DatabaseError, EventDraft, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, Rights};

/// The longest name.
const MAX_NAME: usize = 32;
/// Names that events and resources have for something else.
const RESERVED: [&str; 2] = [LOCAL, "manager"];

/// Creates a user, who has no token yet. The name of a user who was removed is not used again: events and removed machines have it.
#[utoipa::path(post, path = "/", tag = "users", operation_id = "create_user", request_body = CreateUser,
    responses((status = 201, description = "The user.", body = Item<User>)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    query: Query,
    Json(request): Json<CreateUser>,
) -> Result<Response> {
    query.finish()?;
    check_name(&request.name)?;
    let id = crate::routes::new_id();
    let now = crate::routes::now();
    let user = User { id, name: request.name, role: request.role, disabled: false, created_at: now };
    let mut write = app.database().write().await?;
    // Nothing changes them any more before the commit.
    rights.check_changes().await?;
    let taken = || ApiError::new(409, "name-taken", format!("a user has, or had, the name {:?}", user.name));
    if write.is_owner_known(&user.name).await? {
        return Err(taken().with_hint("choose another name"));
    }
    write.add_user(&user).await.map_err(|error| match error {
        DatabaseError::Duplicate => taken(),
        other => other.into(),
    })?;
    let (kind, data) = ("user.created", json!({ "name": user.name, "role": user.role }));
    let resource = resource(ResourceKind::User, &*user.id);
    write.event(EventDraft { kind, actor: &caller.name, owner: &user.name, resource, data }).await?;
    write.commit().await?;
    let location = format!("/v1/users/{}", user.name);
    let mut response = Json(Item { item: user }).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = location.try_into() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(is_plain);
    let rest = name.bytes().all(|byte| is_plain(byte) || b"._-".contains(&byte));
    if !first || !rest || name.len() > MAX_NAME {
        let detail = format!(
            "name {name:?} is not the name of a user: 1 to {MAX_NAME} of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or a digit"
        );
        return Err(ApiError::new(422, "invalid-field", detail));
    }
    if RESERVED.contains(&name) {
        return Err(ApiError::new(422, "invalid-field", format!("name {name:?} is reserved")));
    }
    Ok(())
}
