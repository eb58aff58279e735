//! What the manager is, and whether it works.

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::{About, HealthReport, Item, WhoAmI};
use utoipa_axum::routes;

use crate::App;
use crate::http::{Caller, Document, Json, Policy, Routes};

/// What was added to `/v1`, in the order in which it was added.
const EXTENSIONS: [&str; 10] = [
    "machines",
    "operations",
    "users",
    "tokens",
    "idempotency",
    "snapshots",
    "pools",
    "images",
    "runtime-snapshots",
    "volumes",
];

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app)
        .add(Policy::Public, routes!(health))
        .add(Policy::Public, routes!(openapi))
        .add(Policy::Public, routes!(about))
        .add(Policy::Authenticated, routes!(whoami))
}

/// Whether the manager works.
#[utoipa::path(get, path = "/health", tag = "manager", responses(
    (status = 200, description = "It works.", body = HealthReport),
    (status = 503, description = "The database cannot be used.", body = HealthReport),
))]
async fn health(State(app): State<App>) -> Response {
    match app.database().check().await {
        Ok(()) => Json(HealthReport { status: "ok".to_owned(), database: "ok".to_owned() }).into_response(),
        Err(error) => {
            let report = HealthReport { status: "unavailable".to_owned(), database: error.to_string() };
            let mut response = Json(report).into_response();
            *response.status_mut() = axum::http::StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "manager", responses(
    (status = 200, description = "The API's document (OpenAPI 3.1).", body = Object, content_type = "application/json"),
))]
async fn openapi(Extension(Document(document)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// What the manager is, and what it can do.
#[utoipa::path(get, path = "/v1", tag = "manager", responses((status = 200, description = "The manager.", body = Item<About>)))]
async fn about() -> Json<Item<About>> {
    Json(Item {
        item: About {
            name: "mimeo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: "v1".to_owned(),
            extensions: EXTENSIONS.iter().map(ToString::to_string).collect(),
        },
    })
}

/// Who the caller is.
#[utoipa::path(get, path = "/v1/whoami", tag = "manager", responses((status = 200, description = "The caller.", body = Item<WhoAmI>)))]
async fn whoami(caller: Caller) -> Json<Item<WhoAmI>> {
    let Caller { name, role, scopes, token, .. } = caller;
    Json(Item { item: WhoAmI { user: name, role, scopes, token } })
}
