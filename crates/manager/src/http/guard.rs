//! What protects the manager from any single request: a limit of requests at a time, and handlers that panic.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::ApiError;
use crate::App;

/// Bytes of a request's target and headers at most.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Answers one request, counts it, and survives its handler's panic.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_exempt = is_exempt(&request);
    let permit = app.limits().take_request_slot();
    let response = match permit {
        _ if header_bytes(&request) > MAX_HEADER_BYTES => {
            let detail = format!("the request's target and headers are longer than {MAX_HEADER_BYTES} bytes");
            ApiError::new(431, "headers-too-large", detail).into_response()
        }
        Some(_permit) => catch_panic(next.run(request)).await,
        None if is_exempt => catch_panic(next.run(request)).await,
        None => ApiError::new(503, "overloaded", "the manager answers too many requests at a time")
            .with_retry_after(1)
            .into_response(),
    };
    let route = route.as_deref().unwrap_or("unknown");
    app.metrics().request_answered(method, route, response.status().as_u16(), begin.elapsed());
    response
}

/// Whether the request is answered however many are: it asks how the manager is.
pub(super) fn is_exempt(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    matches!(route, Some("/health" | "/metrics"))
}

fn header_bytes(request: &Request) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    target + headers.sum::<usize>()
}

/// A name of which there are only few: clients may send any word as a method.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Makes a problem of a handler's panic.
pub(super) async fn catch_panic(answer: impl Future<Output = Response>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!(component = "http", panic = message, "a handler panicked");
    ApiError::new(500, "internal", "the manager failed; its log says why").into_response()
}

/// Runs a handler to its end, even if its client goes away: what it has recorded must be done.
pub(super) async fn run_to_end(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match tokio::spawn(catch_panic(next.run(request))).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(component = "http", %error, "a handler was aborted");
            ApiError::new(500, "internal", "the manager failed; its log says why").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem() {
        let answer = async { panic!("out of luck") };
        let response = catch_panic(answer).await;
        assert_eq!(response.status(), 500);
        let problem = response.extensions().get::<ApiError>().expect("a problem").problem().clone();
        assert_eq!((problem.code.as_str(), problem.detail.contains("luck")), ("internal", false));
    }
}
