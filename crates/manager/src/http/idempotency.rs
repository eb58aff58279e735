//! `Idempotency-Key`: a POST that is sent again gets the answer of the first one.
//!
//! The key is recorded before the request is carried out, and the answer before it is sent. A request with a key is
//! carried out to its end even if its client goes away.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use jiff::Timestamp;
use mimeo_manager_api::Problem;
use sha2::{Digest, Sha256};

use super::{ApiError, Caller, Result, json};
use crate::App;
use crate::database::{DatabaseError, KeptAnswer, hex};

/// The header of requests.
const HEADER: &str = "idempotency-key";
/// The header of answers that were given before.
const REPLAYED: &str = "idempotency-replayed";
/// The longest key.
const MAX_KEY: usize = 255;
/// The largest body of a request with a key: it is read before the request is carried out.
const MAX_REQUEST: usize = 4 << 20;
/// The largest body of an answer that is kept.
const MAX_ANSWER: u64 = 4 << 20;
/// How long answers are kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Headers of answers that belong to one answer only.
const NOT_KEPT: [header::HeaderName; 2] = [header::CONTENT_LENGTH, header::DATE];

/// A key that is in use until this is dropped.
struct KeyInUse {
    app: App,
    user: String,
    key: String,
}

impl KeyInUse {
    /// Takes the key; `None` if it is in use.
    fn take(app: &App, user: &str, key: &str) -> Option<Self> {
        let is_new = app.keys_in_use().insert(user, key);
        is_new.then(|| Self { app: app.clone(), user: user.to_owned(), key: key.to_owned() })
    }
}

impl Drop for KeyInUse {
    fn drop(&mut self) {
        self.app.keys_in_use().remove(&self.user, &self.key);
    }
}

/// Answers a POST with a key that was used before with the first answer.
pub(super) async fn replay(State(app): State<App>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    match (caller, request.headers().get(HEADER).cloned()) {
        (Some(caller), Some(key)) if request.method() == Method::POST => {
            match with_key(&app, &caller, &key, request, next).await {
                Ok(response) => response,
                Err(error) => error.into_response(),
            }
        }
        _ => next.run(request).await,
    }
}

async fn with_key(
    app: &App,
    caller: &Caller,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response> {
    let key = checked_key(key)?;
    let (parts, body) = request.into_parts();
    let body = json::read(body, MAX_REQUEST).await?;
    let target = parts.uri.path_and_query().map(|target| target.as_str()).unwrap_or_default();
    let digest = digest(&[parts.method.as_str(), original_target(&parts, target), ""], &body);
    let in_use = KeyInUse::take(app, &caller.id, &key).ok_or_else(|| in_progress(&key))?;
    if let Some(answer) = begin(app, caller, &key, &digest).await? {
        return replayed(answer, &key);
    }
    let request = Request::from_parts(parts, Body::from(body));
    carry_out(in_use, request, next).await
}

/// The path and the query as the client has sent them: a nested router sees only the rest of the path.
fn original_target<'a>(parts: &'a axum::http::request::Parts, target: &'a str) -> &'a str {
    let original = parts.extensions.get::<axum::extract::OriginalUri>();
    original.and_then(|uri| uri.0.path_and_query()).map_or(target, |target| target.as_str())
}

fn checked_key(key: &HeaderValue) -> Result<String> {
    let is_usable = |text: &&str| (1..=MAX_KEY).contains(&text.len());
    let text = key.to_str().ok().filter(is_usable);
    let detail = format!("Idempotency-Key is not a text of 1 to {MAX_KEY} visible ASCII characters");
    text.map(str::to_owned).ok_or_else(|| ApiError::new(400, "invalid-idempotency-key", detail))
}

fn digest(words: &[&str], body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update(word);
        hasher.update(b"\n");
    }
    hasher.update(body);
    hex(&hasher.finalize())
}

fn in_progress(key: &str) -> ApiError {
    let detail = format!("the first request with the key {key:?} is still being answered");
    ApiError::new(409, "idempotency-in-progress", detail).with_retry_after(1)
}

/// Records the key; returns the answer if there is one already.
async fn begin(app: &App, caller: &Caller, key: &str, digest: &str) -> Result<Option<KeptAnswer>> {
    let now = Timestamp::now();
    let mut write = app.database().write().await?;
    write.forget_idempotency_keys((now - RETENTION).as_microsecond()).await?;
    let Some(row) = write.idempotency_key(&caller.id, key).await? else {
        write.add_idempotency_key(&caller.id, key, digest, now.as_microsecond()).await?;
        write.commit().await?;
        return Ok(None);
    };
    if row.request_digest != digest {
        let detail = format!("the key {key:?} was used for another request");
        return Err(ApiError::new(422, "idempotency-mismatch", detail).with_hint("use a new key"));
    }
    // The manager ended while it carried the request out.
    row.answer.map(Some).ok_or_else(|| {
        let detail = format!("the manager was restarted during the first request with the key {key:?}");
        ApiError::new(409, "idempotency-outcome-unknown", detail).with_hint(
            "look whether it was carried out, for example in /v1/operations, and use a new key if it was not",
        )
    })
}

/// Carries the request out in a task of its own, which outlives its connection.
async fn carry_out(in_use: KeyInUse, request: Request, next: Next) -> Result<Response> {
    let (send, answer) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let response = super::guard::catch_panic(next.run(request)).await;
        let (response, kept) = split(response).await;
        let first = store_answer(&in_use, kept.as_ref()).await;
        // The client may have gone.
        send.send(response).ok();
        if let Err(error) = first {
            keep_later(&in_use, kept.as_ref(), error).await;
        }
    });
    answer.await.map_err(|_| {
        tracing::error!(component = "http", "a request ended without an answer: {:?}", task.is_finished());
        ApiError::new(500, "internal", "the manager failed; its log says why")
    })
}

/// Reads the answer, and returns it with what is kept of it. A failure of the manager is not kept.
async fn split(response: Response) -> (Response, Option<KeptAnswer>) {
    if response.status().is_server_error() {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let status = i64::from(parts.status.as_u16());
    let headers = headers_json(&parts.headers);
    let is_secret = parts.headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-store");
    let is_short = axum::body::HttpBody::size_hint(&body).exact().is_some_and(|size| size <= MAX_ANSWER);
    if is_secret || !is_short {
        return (Response::from_parts(parts, body), Some(KeptAnswer { status, headers, body: None }));
    }
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::error!(component = "http", %error, "cannot read an answer of the manager's own");
            bytes::Bytes::new()
        }
    };
    let kept = KeptAnswer { status, headers, body: Some(STANDARD.encode(&bytes)) };
    (Response::from_parts(parts, Body::from(bytes)), Some(kept))
}

fn headers_json(headers: &HeaderMap) -> String {
    let kept = headers.iter().filter(|(name, _)| !NOT_KEPT.contains(name));
    let pairs: Vec<(&str, &str)> =
        kept.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    // Strings: serialization cannot fail.
    serde_json::to_string(&pairs).unwrap_or_default()
}

async fn store_answer(
    in_use: &KeyInUse,
    kept: Option<&KeptAnswer>,
) -> std::result::Result<(), DatabaseError> {
    let KeyInUse { app, user, key } = in_use;
    let mut write = app.database().write().await?;
    match kept {
        Some(answer) => write.keep_answer(user, key, answer).await?,
        None => write.forget_idempotency_key(user, key).await?,
    }
    write.commit().await
}

/// Keeps the answer once the database can be used again. Until then the key is in use.
async fn keep_later(in_use: &KeyInUse, kept: Option<&KeptAnswer>, mut error: DatabaseError) {
    loop {
        let error_text = mimeo_engine::cause::chain(&error);
        tracing::error!(component = "http", error = error_text, "cannot keep an answer: trying again");
        tokio::select! {
            () = tokio::time::sleep(crate::DATABASE_RETRY_DELAY) => {}
            () = in_use.app.end().cancelled() => return,
        }
        match store_answer(in_use, kept).await {
            Ok(()) => return,
            Err(again) => error = again,
        }
    }
}

fn replayed(answer: KeptAnswer, key: &str) -> Result<Response> {
    let Some(body) = answer.body else {
        let detail = format!(
            "the request with the key {key:?} was answered with {}, and its body was not kept",
            answer.status
        );
        return Err(ApiError::new(409, "idempotency-answer-not-kept", detail)
            .with_hint("secrets and very long answers are not kept"));
    };
    // The manager has written both.
    let body = STANDARD.decode(body).unwrap_or_default();
    let headers: Vec<(String, String)> = serde_json::from_str(&answer.headers).unwrap_or_default();
    let mut response = match serde_json::from_slice::<Problem>(&body) {
        // A problem gets the id of this request.
        Ok(problem) if answer.status >= 400 => ApiError::from(problem).into_response(),
        _ => Body::from(body).into_response(),
    };
    let status = u16::try_from(answer.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
