//! `POST /v1/tokens`. A token can be made with at most the rights, and the time, of the token that makes it.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use mimeo_manager_api::{CreateToken, CreatedToken, ResourceKind, Role, Scope, Token, User};
use serde_json::json;

use crate::App;
use crate::caller::ALL_SCOPES;
use crate::database::{EventDraft, TokenRow, resource};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, Rights};

/// The longest name.
const MAX_NAME: usize = 100;
/// The longest time, ten years: a longer one is an error in the request.
const MAX_TTL_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Creates a token, which may do no more than the one that makes it, and expires no later. Its secret is in this answer only.
#[utoipa::path(post, path = "/", tag = "tokens", operation_id = "create_token", request_body = CreateToken,
    responses((status = 201, description = "The token and its secret.", body = CreatedToken)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    query: Query,
    Json(request): Json<CreateToken>,
) -> Result<Response> {
    query.finish()?;
    let user = user(&app, &caller, request.user.as_deref()).await?;
    let scopes = scopes(&caller, &user, request.scopes)?;
    let expires_at = expiry(&caller, request.ttl_seconds)?;
    let item = Token {
        id: crate::routes::new_id(),
        name: checked_name(request.name)?,
        user: user.name.clone(),
        scopes,
        machine: None,
        created_at: crate::routes::now(),
        expires_at,
        last_used_at: None,
    };
    let secret = crate::routes::new_secret();
    store(&app, &caller, &rights, &TokenRow { item: item.clone(), user }, &secret).await?;
    let location = format!("/v1/tokens/{}", item.id);
    // Caches must not store this answer.
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    let mut response = (headers, Json(CreatedToken { item, secret })).into_response();
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn store(app: &App, caller: &Caller, rights: &Rights, row: &TokenRow, secret: &str) -> Result<()> {
    let item = &row.item;
    let mut write = app.database().write().await?;
    // Nothing changes them any more before the commit.
    rights.check_changes().await?;
    write.add_token(row, secret).await?;
    let data = json!({ "name": item.name, "scopes": item.scopes, "expires_at": item.expires_at });
    let (kind, resource) = ("token.created", resource(ResourceKind::Token, &*item.id));
    write.event(EventDraft { kind, actor: &caller.name, owner: &item.user, resource, data }).await?;
    Ok(write.commit().await?)
}

/// The user whose token it is to be.
async fn user(app: &App, caller: &Caller, requested: Option<&str>) -> Result<User> {
    match requested {
        Some(word) if *word != *caller.name && !super::is_admin(caller) => {
            Err(ApiError::new(403, "forbidden", "only administrators make tokens for other users"))
        }
        Some(word) => super::super::users::find(app, word).await,
        None => app.database().user(&caller.id).await?.ok_or_else(|| {
            ApiError::new(422, "invalid-field", "user is missing: the Unix socket's user has no tokens")
        }),
    }
}

/// What users of this role may do at most.
fn scopes_of(role: Role) -> &'static [Scope] {
    match role {
        Role::Admin => &ALL_SCOPES,
        Role::User => &[Scope::Read, Scope::Write, Scope::Exec],
        Role::Viewer => &[Scope::Read],
    }
}

fn scopes(caller: &Caller, user: &User, requested: Option<Vec<Scope>>) -> Result<Vec<Scope>> {
    let may_have = |scope: &Scope| scopes_of(user.role).contains(scope) && caller.has(*scope);
    let Some(mut scopes) = requested else {
        return Ok(ALL_SCOPES.into_iter().filter(|scope| may_have(scope)).collect());
    };
    if let Some(scope) = scopes.iter().find(|scope| !may_have(scope)) {
        let scope = crate::problems::name_of(scope);
        let detail =
            format!("the scope {scope:?} is more than the user {:?}, or your token, may do", user.name);
        return Err(ApiError::new(403, "scope-forbidden", detail));
    }
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(ApiError::new(422, "invalid-field", "scopes is empty: such a token may do nothing"));
    }
    Ok(scopes)
}

/// When the token expires: not after the token that makes it.
fn expiry(caller: &Caller, ttl_seconds: Option<u64>) -> Result<Option<Timestamp>> {
    if let Some(seconds) = ttl_seconds.filter(|seconds| !(1..=MAX_TTL_SECONDS).contains(seconds)) {
        let detail = format!("ttl_seconds {seconds} is not between 1 and {MAX_TTL_SECONDS}");
        return Err(ApiError::new(422, "invalid-field", detail));
    }
    let requested = ttl_seconds.map(|seconds| crate::routes::now() + Duration::from_secs(seconds));
    Ok(requested.into_iter().chain(caller.expires_at).min())
}

fn checked_name(name: String) -> Result<String> {
    if name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    let detail = format!("name is not text of at most {MAX_NAME} characters in one line");
    Err(ApiError::new(422, "invalid-field", detail))
}
