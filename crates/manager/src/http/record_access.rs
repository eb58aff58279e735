//! Records who looks into a machine or acts in it.

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::ResourceKind;
use serde_json::json;

use super::query::Query;
use super::{ApiError, Caller, Result};
use crate::App;
use crate::audit::audit;
use crate::database::resource;
use crate::find_machine;

/// Records that a caller looks into a machine or acts in it, before it happens: through a console, by a stream or a file.
pub(super) async fn record_access(
    State(app): State<App>,
    params: RawPathParams,
    query: Query,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    let access =
        request.extensions().get::<MatchedPath>().and_then(|path| access(request.method(), path.as_str()));
    let machine = params.iter().find(|(name, _)| *name == "id").map(|(_, word)| word.to_owned());
    if let (Some(access), Some(machine)) = (access, machine)
        && let Err(error) = record(&app, &caller, &machine, access, request.method(), query).await
    {
        return error.into_response();
    }
    next.run(request).await
}

/// The word after the machine's id. Logs are read too often, and `exec`'s POST records the program's name itself.
fn access<'a>(method: &Method, route: &'a str) -> Option<&'a str> {
    let word = route.split("{id}/").nth(1)?.split('/').next()?;
    (word != "logs" && (word != "exec" || method != Method::POST)).then_some(word)
}

async fn record(
    app: &App,
    caller: &Caller,
    machine: &str,
    access: &str,
    method: &Method,
    mut query: Query,
) -> Result<()> {
    let row = match find_machine::find(app, caller, machine).await {
        Ok(row) => row.item,
        // The route answers with that.
        Err(error) if error.problem().status < 500 => return Ok(()),
        Err(error) => return Err(error),
    };
    let path = query.take_all("path").into_iter().next();
    let data = json!({ "name": row.name, "method": method.as_str(), "path": path });
    let resource = resource(ResourceKind::Machine, &*row.id);
    let kind = format!("machine.{access}");
    audit(app, caller, &kind, &row.owner, resource, data).await.map_err(ApiError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_access_has_a_name() {
        let of = |method: Method, route| access(&method, route).map(str::to_owned);
        assert_eq!(of(Method::GET, "/v1/vms/{id}/files/list").as_deref(), Some("files"));
        assert_eq!(of(Method::GET, "/v1/vms/{id}/exec").as_deref(), Some("exec"));
        assert_eq!(of(Method::POST, "/v1/vms/{id}/exec"), None);
        assert_eq!(of(Method::GET, "/v1/vms/{id}/logs"), None);
        assert_eq!(of(Method::GET, "/v1/vms/{id}"), None);
    }
}
