//! Answers of requests that begin an operation.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::{Accepted, Machine, Operation, OperationStatus};
use serde::Serialize;

use crate::http::etag::with_etag;
use crate::http::{ApiError, Json, Result};
use crate::live::LiveOperation;
use crate::operations::Begun;

/// Waits for the operation as long as the client asks for, and answers: with `done` if it has succeeded, with its problem if
/// it has failed, with 202 if it goes on.
pub(crate) async fn answer(begun: Begun, wait: Duration, done: u16) -> Result<Response> {
    let Begun { machine, live } = begun;
    let operation = if wait.is_zero() { live.snapshot() } else { live.wait(wait).await };
    match operation.status {
        OperationStatus::Running => Ok(accepted(machine, operation, StatusCode::ACCEPTED)),
        OperationStatus::Succeeded => {
            let machine = live.finished_machine().unwrap_or(machine);
            Ok(accepted(machine, operation, StatusCode::from_u16(done).unwrap_or(StatusCode::OK)))
        }
        OperationStatus::Failed | OperationStatus::Cancelled => Err(failure(operation)),
    }
}

/// As [`answer`], for another resource: `reload` reads it when the operation has succeeded; if it returns none, the item is
/// as it was.
pub(crate) async fn answer_with<T: Serialize>(
    item: T,
    live: &LiveOperation,
    wait: Duration,
    done: u16,
    reload: impl Future<Output = Result<Option<T>>>,
) -> Result<Response> {
    let operation = if wait.is_zero() { live.snapshot() } else { live.wait(wait).await };
    match operation.status {
        OperationStatus::Running => Ok(with_operation(item, operation, StatusCode::ACCEPTED)),
        OperationStatus::Succeeded => {
            let item = reload.await?.unwrap_or(item);
            Ok(with_operation(item, operation, StatusCode::from_u16(done).unwrap_or(StatusCode::OK)))
        }
        OperationStatus::Failed | OperationStatus::Cancelled => Err(failure(operation)),
    }
}

fn failure(operation: Operation) -> ApiError {
    match operation.error {
        Some(problem) => problem.into(),
        None if operation.status == OperationStatus::Cancelled => {
            ApiError::new(409, "cancelled", format!("the operation {} was cancelled", operation.id))
        }
        None => ApiError::new(500, "internal", format!("the operation {} failed", operation.id)),
    }
}

fn accepted(item: Machine, operation: Operation, status: StatusCode) -> Response {
    let version = item.version;
    with_etag(version, with_operation(item, operation, status))
}

fn with_operation<T: Serialize>(item: T, operation: Operation, status: StatusCode) -> Response {
    let location = format!("/v1/operations/{}", operation.id);
    let mut response = Json(Accepted { item, operation }).into_response();
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
