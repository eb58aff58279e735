//! Figures for Prometheus.

mod text;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::App;
use crate::http::query::Query;
use crate::http::{Policy, Result, Routes};

/// The text format of OpenMetrics.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app).add(Policy::Read, routes!(metrics_text))
}

/// Figures for Prometheus. It needs a token, of a viewer for example; on the Unix socket none.
#[utoipa::path(get, path = "/metrics", tag = "metrics", operation_id = "metrics", responses(
    (status = 200, description = "The figures.", body = String, content_type = "application/openmetrics-text"),
))]
async fn metrics_text(State(app): State<App>, query: Query) -> Result<Response> {
    query.finish()?;
    let text = text::text(&app).await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}
