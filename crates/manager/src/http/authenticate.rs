//! Who sends a request: a user with a token, or a local user who may open the manager's Unix socket.

use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::{ApiError, Caller, Policy, Result, Rights, web_socket};
use crate::App;
use crate::caller::Peer;
use crate::database::TokenRow;

/// How long a change may go on whose sender's rights have ended: the change may be what has ended them.
const CHANGE_GRACE: Duration = Duration::from_secs(5);

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
    let changes = app.database().rights_changes();
    let caller = match admit(&app, policy, peer, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let slot = match super::guard::is_exempt(&request) {
        true => None,
        false => match app.limits().take_user_slot(&caller.id) {
            Ok(slot) => Some(slot),
            Err(error) => return error.into_response(),
        },
    };
    let rights = Rights::new(&app, &caller, changes, slot);
    let is_change = policy != Policy::Exec && !matches!(*request.method(), Method::GET | Method::HEAD);
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(rights.clone());
    answer(&rights, is_change, next.run(request)).await
}

/// Answers a request; with a problem if the sender's rights end before.
async fn answer(rights: &Rights, is_change: bool, answering: impl Future<Output = Response>) -> Response {
    tokio::pin!(answering);
    let why = match rights.during(&mut answering).await {
        Ok(response) => return response,
        Err(why) => why,
    };
    if !is_change {
        return why.into_response();
    }
    tokio::time::timeout(CHANGE_GRACE, answering).await.unwrap_or_else(|_| why.into_response())
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

pub(super) fn unauthenticated() -> ApiError {
    ApiError::new(401, "unauthenticated", "the request has no valid token").with_hint(
        "send the header `Authorization: Bearer TOKEN`; with the command line: --token or MIMEO_TOKEN",
    )
}

async fn authenticate(app: &App, secret: &str) -> Result<Caller> {
    let row = app.database().token_by_secret(secret).await?.ok_or_else(unauthenticated)?;
    let now = Timestamp::now();
    check_token(&row, now)?;
    app.tokens_used().mark(&row.item, now);
    Ok(row.into())
}

/// Refuses a caller whose rights have ended during a request that goes on.
pub(super) async fn check_again(app: &App, caller: &Caller) -> Result<()> {
    let Some(token) = &caller.token else { return Ok(()) };
    let row = app.database().token(token).await?;
    let row = row.ok_or_else(|| ApiError::new(401, "unauthenticated", "the token was removed"))?;
    check_token(&row, Timestamp::now())?;
    if row.user.role != caller.role {
        let detail = format!("the role of the user {:?} was changed", caller.name);
        return Err(ApiError::new(403, "role-changed", detail).with_hint("send the request again"));
    }
    Ok(())
}

pub(super) fn expired() -> ApiError {
    ApiError::new(401, "token-expired", "the token has expired")
}

fn check_token(row: &TokenRow, now: Timestamp) -> Result<()> {
    if row.item.expires_at.is_some_and(|time| time <= now) {
        return Err(expired());
    }
    if row.user.disabled {
        return Err(ApiError::new(401, "user-disabled", format!("the user {:?} is disabled", row.user.name)));
    }
    Ok(())
}
