//! Which names the manager answers to. A page of another site, whose name resolves to this host (DNS rebinding), must
//! not reach it, and neither must a page's request from another origin.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ApiError, Result};
use crate::App;
use crate::caller::Peer;

/// Refuses requests for other hosts, and those of pages of other origins.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match check_headers(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_headers(app: &App, request: &Request) -> Result<()> {
    if request.extensions().get::<Peer>() == Some(&Peer::Unix) {
        return Ok(());
    }
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| header(header::HOST));
    let host = host.ok_or_else(|| ApiError::new(400, "host-missing", "the request has no Host header"))?;
    if !is_allowed(host_name(host), app.allowed_hosts()) {
        let detail = format!("this manager does not answer to the name {host:?}");
        return Err(ApiError::new(421, "host-forbidden", detail)
            .with_hint("use its address, or start it with --allowed-host NAME"));
    }
    let Some(origin) = header(header::ORIGIN) else { return Ok(()) };
    let name = origin.split_once("://").map_or(origin, |(_, name)| name);
    if name == host || is_listed(host_name(name), app.allowed_hosts()) {
        return Ok(());
    }
    let detail = format!("pages of the origin {origin:?} may not use this manager");
    Err(ApiError::new(403, "origin-forbidden", detail))
}

/// The name in `name:port`, without the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// An address cannot be rebound: only names are checked.
fn is_allowed(name: &str, allowed: &[String]) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || is_listed(name, allowed)
}

fn is_listed(name: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_answered() {
        let allowed = ["mimeo.example".to_owned()];
        for good in [
            "127.0.0.1:18080",
            "[::1]:80",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "mimeo.example:443",
            "10.0.0.1",
        ] {
            assert!(is_allowed(host_name(good), &allowed), "{good}");
        }
        for bad in
            ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", "mimeo.example.evil"]
        {
            assert!(!is_allowed(host_name(bad), &allowed), "{bad}");
        }
    }
}
