//! The id of each request: the client's `X-Request-ID`, or a new one. It is in the answer, in problem documents and in
//! the log.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiError;

/// The header.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a client.
const MAX_LENGTH: usize = 64;

/// Gives each request its id, and logs the request.
pub(crate) async fn assign(request: Request, next: Next) -> Response {
    let id = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).filter(|id| is_usable(id));
    let id = id.map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begin = std::time::Instant::now();
    let mut response = with_id(next.run(request).await, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    let (status, ms) = (response.status().as_u16(), begin.elapsed().as_millis());
    tracing::info!(component = "http", request = id, %method, path, status, ms, "answered");
    response
}

fn is_usable(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !id.is_empty() && id.len() <= MAX_LENGTH && id.bytes().all(is_plain)
}

/// Writes the id into the answer if that is a problem document.
fn with_id(mut response: Response, id: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let mut problem = error.problem().clone();
    problem.request_id = Some(id.to_owned());
    let mut headers = response.headers().clone();
    headers.remove(header::CONTENT_LENGTH);
    let mut response = ApiError::from(problem).into_response();
    response.extensions_mut().remove::<ApiError>();
    for (name, value) in &headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}
