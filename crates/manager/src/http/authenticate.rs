//! Who sends a request: a user with a token, or a local user who may open the manager's Unix socket.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::{ApiError, Caller, Policy, Result, web_socket};
use crate::App;
use crate::caller::Peer;
use crate::database::TokenRow;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        // `authorize` has put it there, on every route that is not public.
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// Answers a request only if its sender may call this route.
pub(crate) async fn authorize(
    State((app, policy)): State<(App, Policy)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    if policy == Policy::Public {
        if let Err(error) = app.limits().check_public(peer) {
            return error.into_response();
        }
        return next.run(request).await;
    }
    match admit(&app, policy, peer, request.headers()).await {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(error) => return error.into_response(),
    };
    next.run(request).await
}

async fn admit(app: &App, policy: Policy, peer: Option<Peer>, headers: &HeaderMap) -> Result<Caller> {
    let caller = match identify(app, peer, headers).await {
        Ok(caller) => caller,
        Err(error) if error.problem().status == 401 => {
            app.limits().check_failed(peer)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    app.limits().check_user(&caller.id)?;
    policy.check(&caller)?;
    Ok(caller)
}

async fn identify(app: &App, peer: Option<Peer>, headers: &HeaderMap) -> Result<Caller> {
    match bearer(headers)?.or_else(|| web_socket::token(headers)) {
        Some(secret) => authenticate(app, secret).await,
        None if peer == Some(Peer::Unix) => Ok(Caller::local()),
        None => Err(unauthenticated()),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let (scheme, secret) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unauthenticated)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(secret.trim())) } else { Err(unauthenticated()) }
}

fn unauthenticated() -> ApiError {
    ApiError::new(401, "unauthenticated", "the request has no valid token")
        .with_hint("send the header `Authorization: Bearer TOKEN`")
}

async fn authenticate(app: &App, secret: &str) -> Result<Caller> {
    let row = app.database().token_by_secret(secret).await?.ok_or_else(unauthenticated)?;
    let now = Timestamp::now();
    check_token(&row, now)?;
    app.tokens_used().mark(&row.item, now);
    Ok(row.into())
}

/// Refuses a caller whose token was removed, or has expired, during a request that goes on.
pub(crate) async fn check_again(app: &App, caller: &Caller) -> Result<()> {
    let Some(token) = &caller.token else { return Ok(()) };
    let row = app.database().token(token).await?.ok_or_else(unauthenticated)?;
    check_token(&row, Timestamp::now())
}

fn check_token(row: &TokenRow, now: Timestamp) -> Result<()> {
    if row.item.expires_at.is_some_and(|time| time <= now) {
        return Err(ApiError::new(401, "token-expired", "the token has expired"));
    }
    if row.user.disabled {
        return Err(ApiError::new(401, "user-disabled", format!("the user {:?} is disabled", row.user.name)));
    }
    Ok(())
}
