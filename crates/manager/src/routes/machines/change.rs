//! Starts, stops and removes machines.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::Response;
use mimeo_manager_api::{Accepted, Machine};

use crate::App;
use crate::find_machine::find;
use crate::http::query::Query;
use crate::http::{Caller, Result, wait};
use crate::operations::{self, OperationRequest};
use crate::precondition::IfMatch;
use crate::routes::accepted::answer;

/// What all of these requests have in common.
pub(super) struct Change {
    app: App,
    caller: Caller,
    word: String,
    if_match: IfMatch,
    query: Query,
}

impl FromRequestParts<App> for Change {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> std::result::Result<Self, Response> {
        let (caller, Path(word), if_match, query) =
            <(Caller, Path<String>, IfMatch, Query)>::from_request_parts(parts, app).await?;
        Ok(Self { app: app.clone(), caller, word, if_match, query })
    }
}

impl Change {
    /// Begins the operation, and waits for it if the client asks for that.
    async fn begin(mut self, request: OperationRequest) -> Result<Response> {
        let wait = wait::seconds(&mut self.query, "wait", 0.0)?;
        self.query.finish()?;
        let row = find(&self.app, &self.caller, &self.word).await?;
        let begun = operations::begin(&self.app, &self.caller, &row.item.id, &self.if_match, request).await?;
        answer(begun, wait, 200).await
    }

    /// Takes `timeout`, the seconds between the stop signal and SIGKILL.
    fn timeout(&mut self) -> Result<Option<u32>> {
        self.query.take_parsed("timeout")
    }
}

/// Removes a machine in any state, with all of its files; cancels its creation.
#[utoipa::path(delete, path = "/{id}", tag = "machines", operation_id = "delete",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("timeout" = Option<u32>, Query, description = "Seconds between the stop signal and SIGKILL; 0 by default"),
        ("force" = Option<bool>, Query, description = "Remove it in any state, the default; `false`: only if it does not run"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it is removed; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine was removed.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being removed.", body = Accepted<Machine>),
        (status = 409, description = "It runs (`machine-running`) or is being changed (`operation-in-progress`), and `force` is false."),
    ))]
pub(super) async fn delete(mut change: Change) -> Result<Response> {
    let (timeout, reason) = (change.timeout()?, format!("removed by {}", change.caller.name));
    let force = change.query.take_parsed("force")?.unwrap_or(true);
    change.begin(OperationRequest::Delete { timeout, reason, force }).await
}

/// Starts a machine that does not run.
#[utoipa::path(post, path = "/{id}/start", tag = "machines", operation_id = "start",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it runs; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine runs.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being started.", body = Accepted<Machine>),
    ))]
pub(super) async fn start(change: Change) -> Result<Response> {
    change.begin(OperationRequest::Start).await
}

/// Stops a machine: sends the stop signal, and SIGKILL after a while.
#[utoipa::path(post, path = "/{id}/stop", tag = "machines", operation_id = "stop",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("timeout" = Option<u32>, Query, description = "Seconds between the stop signal and SIGKILL; the machine's own setting by default"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it has exited; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine has exited.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being stopped.", body = Accepted<Machine>),
    ))]
pub(super) async fn stop(mut change: Change) -> Result<Response> {
    let timeout = change.timeout()?;
    change.begin(OperationRequest::Stop { timeout }).await
}

/// Stops a machine, if it runs, and starts it again.
#[utoipa::path(post, path = "/{id}/restart", tag = "machines", operation_id = "restart",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("timeout" = Option<u32>, Query, description = "Seconds between the stop signal and SIGKILL; the machine's own setting by default"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it runs; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine runs.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being restarted.", body = Accepted<Machine>),
    ))]
pub(super) async fn restart(mut change: Change) -> Result<Response> {
    let timeout = change.timeout()?;
    change.begin(OperationRequest::Restart { timeout }).await
}

/// Stops a machine's vCPUs.
#[utoipa::path(post, path = "/{id}/pause", tag = "machines", operation_id = "pause",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it is paused; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine is paused.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being paused.", body = Accepted<Machine>),
    ))]
pub(super) async fn pause(change: Change) -> Result<Response> {
    change.begin(OperationRequest::Pause).await
}

/// Resumes a paused machine.
#[utoipa::path(post, path = "/{id}/resume", tag = "machines", operation_id = "resume",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("If-Match" = Option<String>, Header, description = "Versions (`ETag`) of which the machine must have one: 412 `version-changed` if it has another"),
        ("wait" = Option<f64>, Query, description = "Seconds to wait until it runs; 0 by default", minimum = 0, maximum = 300),
    ),
    responses(
        (status = 200, description = "The machine runs.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being resumed.", body = Accepted<Machine>),
    ))]
pub(super) async fn resume(change: Change) -> Result<Response> {
    change.begin(OperationRequest::Resume).await
}
