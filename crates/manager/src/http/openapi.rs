//! The API's document.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, ContentBuilder, Info, License, OpenApi, Ref, ResponseBuilder};

use super::router::{BEARER, operations};
use crate::App;

/// Returns the API's document (OpenAPI 3.1).
pub(crate) fn document(app: &App) -> OpenApi {
    let mut document = crate::routes::all(app).into_router().into_openapi();
    complete(&mut document);
    document
}

/// Adds what all routes have in common.
pub(crate) fn complete(document: &mut OpenApi) {
    let mut info = Info::new("mimeo", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Machines (microVMs), their containers and snapshots over HTTP. Errors are problem documents (RFC 9457) with a stable `code`."
            .to_owned(),
    );
    info.license = Some(License::new("Apache-2.0"));
    document.info = info;
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    let mut components = components;
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(scheme).into());
    document.components = Some(components);
    for (path, item) in &mut document.paths.paths {
        let prefix = path.split('/').find(|part| matches!(*part, "vms" | "containers")).map(str::to_owned);
        for operation in operations(item) {
            add_problem(operation);
            // Routes of both views have one handler, but each its own id.
            if let (Some(prefix), Some(id)) = (&prefix, &mut operation.operation_id) {
                *id = format!("{prefix}_{id}");
            }
        }
    }
}

/// Any route may answer with a problem.
fn add_problem(operation: &mut utoipa::openapi::path::Operation) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("The request failed.")
        .content("application/problem+json", content)
        .build();
    for status in ["4XX", "5XX"] {
        operation.responses.responses.insert(status.to_owned(), problem.clone().into());
    }
}
