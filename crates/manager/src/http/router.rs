//! Routes with their policies.

use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::ApiError;
use super::authenticate::authorize;
use super::guard::{guard, run_to_end};
use super::idempotency::replay;
use super::policy::Policy;
use super::record_access::record_access;
use crate::App;

/// The name of the security scheme in the API's document.
pub(super) const BEARER: &str = "token";

/// Routes. The only way to add one is with its policy, so that none can be open by mistake.
pub(crate) struct Routes {
    app: App,
    router: OpenApiRouter<App>,
}

impl Routes {
    /// No routes.
    pub(crate) fn new(app: &App) -> Self {
        Self { app: app.clone(), router: OpenApiRouter::new() }
    }

    /// Adds a route that those may call whom the policy allows.
    pub(crate) fn add(mut self, policy: Policy, route: UtoipaMethodRouter<App>) -> Self {
        let (schemas, mut paths, methods) = route;
        for item in paths.paths.values_mut() {
            operations(item).for_each(|operation| describe_policy(operation, policy));
        }
        let methods = methods.route_layer(from_fn_with_state(self.app.clone(), replay));
        // Commands and files end with their clients; what is recorded is done.
        let methods = match policy {
            Policy::Write | Policy::Admin => methods.route_layer(from_fn(run_to_end)),
            Policy::Exec => methods.route_layer(from_fn_with_state(self.app.clone(), record_access)),
            _ => methods,
        };
        let methods = methods.route_layer(from_fn_with_state((self.app.clone(), policy), authorize));
        self.router = self.router.routes((schemas, paths, methods));
        self
    }

    /// Adds routes below a path.
    pub(crate) fn nest(mut self, path: &str, routes: Self) -> Self {
        self.router = self.router.nest(path, routes.router);
        self
    }

    /// Adds routes.
    pub(crate) fn merge(mut self, routes: Self) -> Self {
        self.router = self.router.merge(routes.router);
        self
    }

    pub(super) fn into_router(self) -> OpenApiRouter<App> {
        self.router
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, head, .. } = item;
    [get, put, post, delete, patch, head].into_iter().flatten()
}

fn describe_policy(operation: &mut Operation, policy: Policy) {
    let security = match policy {
        Policy::Public => Vec::new(),
        _ => vec![SecurityRequirement::new(BEARER, Vec::<String>::new())],
    };
    operation.security = Some(security);
    operation.extensions = Some(ExtensionsBuilder::new().add("x-policy", policy.name()).build());
}

/// The API's document as JSON, for the route that answers with it.
#[derive(Debug, Clone)]
pub(crate) struct Document(pub(crate) bytes::Bytes);

/// The service that answers all requests.
pub(crate) fn service(app: &App, routes: Routes) -> axum::Router {
    let (router, mut document) = routes.router.split_for_parts();
    super::openapi::complete(&mut document);
    // Strings, numbers and maps of them: serialization cannot fail.
    let document: bytes::Bytes = document.to_json().unwrap_or_default().into();
    router
        .layer(axum::Extension(Document(document)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), super::hosts::check))
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(from_fn(super::request_id::assign))
        .with_state(app.clone())
}

/// No such route.
async fn not_found(request: Request) -> ApiError {
    ApiError::new(404, "no-such-route", format!("there is no {}", request.uri().path()))
        .with_hint("GET /openapi.json lists all routes")
}

/// A route, but not with this method.
async fn method_not_allowed(request: Request) -> ApiError {
    let detail = format!("{} does not support {}", request.uri().path(), request.method());
    ApiError::new(405, "method-not-allowed", detail)
}
