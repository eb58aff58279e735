//! A page that shows the API's document. It needs nothing but the manager.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use utoipa_axum::routes;

use crate::App;
use crate::http::{Policy, Routes};

const HTML: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

static PAGE: LazyLock<String> = LazyLock::new(|| HTML.replace("{style}", STYLE).replace("{script}", SCRIPT));

/// The browser runs this script only, and connects to this manager only.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    )
});

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app).add(Policy::Public, routes!(docs))
}

/// A page to read this document.
#[utoipa::path(get, path = "/docs", tag = "manager", responses(
    (status = 200, description = "A page for a browser.", body = String, content_type = "text/html"),
))]
async fn docs() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str()).into_response()
}
