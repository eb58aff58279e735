//! Logs in to a registry: verifies a user name and a password.

use std::collections::BTreeMap;

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Client, Response, StatusCode};

use crate::credentials::Credentials;
use crate::name::DOCKER_HUB;
use crate::registry::{DOCKER_HUB_HOST, RegistryOptions};
use crate::web;

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The registry does not accept the user name and the password.
    #[error("invalid username/password")]
    Refused,
    /// The registry asks for a kind of login that is not supported.
    #[error("the registry asks for the login {challenge:?}: only Basic and Bearer are supported")]
    Unsupported {
        /// What it asks for.
        challenge: String,
    },
    /// Another reply than the one expected.
    #[error("the registry replied {status}")]
    Unexpected {
        /// The HTTP status.
        status: StatusCode,
    },
    /// The registry cannot be reached.
    #[error("the registry cannot be reached")]
    Unreachable(#[source] reqwest::Error),
}

impl From<reqwest::Error> for LoginError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Verifies credentials with a registry, `host[:port]`. Registries without logins accept all.
///
/// # Errors
/// When the registry refuses them, or cannot be reached.
pub async fn verify_login(
    registry: &str,
    credentials: &Credentials,
    options: &RegistryOptions,
) -> Result<(), LoginError> {
    let client = web::client(registry, options)?;
    let host = if registry == DOCKER_HUB { DOCKER_HUB_HOST } else { registry };
    let plain = web::is_plain(registry, options);
    let scheme = if plain { "http" } else { "https" };
    match log_in(&client, &format!("{scheme}://{host}/v2/"), credentials).await {
        // It may have no TLS at all.
        Err(LoginError::Unreachable(error))
            if options.skip_tls_verification && !plain && error.is_connect() =>
        {
            log_in(&client, &format!("http://{host}/v2/"), credentials).await
        }
        done => done,
    }
}

async fn log_in(client: &Client, url: &str, credentials: &Credentials) -> Result<(), LoginError> {
    let reply = client.get(url).send().await?;
    if reply.status() != StatusCode::UNAUTHORIZED {
        return accepted(&reply);
    }
    let header = reply.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let header = header.unwrap_or_default();
    let (kind, parameters) = header.split_once(' ').unwrap_or((header, ""));
    let parameters = parse_parameters(parameters);
    let request = match (kind.to_ascii_lowercase().as_str(), parameters.get("realm")) {
        ("basic", _) => client.get(url),
        ("bearer", Some(realm)) => {
            let service = parameters.get("service").map(|service| ("service", service.as_str()));
            let account = ("account", credentials.user.as_str());
            client.get(with_query(realm, service.into_iter().chain([account]))?)
        }
        _ => return Err(LoginError::Unsupported { challenge: header.to_owned() }),
    };
    accepted(&request.basic_auth(&credentials.user, Some(&credentials.password)).send().await?)
}

pub(crate) fn with_query<'a>(
    realm: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<reqwest::Url, LoginError> {
    let unsupported = |_| LoginError::Unsupported { challenge: realm.to_owned() };
    let mut url = reqwest::Url::parse(realm).map_err(unsupported)?;
    url.query_pairs_mut().extend_pairs(pairs);
    Ok(url)
}

fn accepted(reply: &Response) -> Result<(), LoginError> {
    match reply.status() {
        status if status.is_success() => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(LoginError::Refused),
        status => Err(LoginError::Unexpected { status }),
    }
}

/// `a="x, y",b=z`
pub(crate) fn parse_parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text;
    while let Some((key, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_once(',').unwrap_or((value, "")),
        };
        parameters.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        rest = after.trim_start_matches([',', ' ']);
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed() {
        let found = parse_parameters(r#"realm="https://auth.test/token?a=b,c",service=registry, scope="x""#);
        assert_eq!(found["realm"], "https://auth.test/token?a=b,c");
        assert_eq!(found["service"], "registry");
        assert_eq!(found["scope"], "x");
        assert!(parse_parameters("").is_empty());
        let url = with_query("https://auth.test/t?x=1", [("service", "a b")].into_iter()).unwrap();
        assert_eq!(url.as_str(), "https://auth.test/t?x=1&service=a+b");
    }
}
