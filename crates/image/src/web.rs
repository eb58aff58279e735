//! Requests to a registry outside the image client: those that name no image, such as a search.

use std::collections::BTreeMap;

use reqwest::header::{LINK, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::credentials::{self, Credentials, CredentialsError};
use crate::limits::MAX_DOCUMENT;
use crate::login::{parse_parameters, with_query};
use crate::name;
use crate::registry::{CONNECT_TIMEOUT, READ_TIMEOUT, RegistryOptions, install_crypto_provider};

/// Why a registry did not send a document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The login file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The registry requires a login, or another one.
    #[error("the registry refuses access: log in first")]
    Refused,
    /// Another reply than the one expected.
    #[error("the registry replied {status}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
    },
    /// The registry asks for a kind of login that is not supported.
    #[error("the registry asks for the login {challenge:?}: only Basic and Bearer are supported")]
    Challenge {
        /// What it asks for.
        challenge: String,
    },
    /// The document is not what it should be.
    #[error("the registry sent an unexpected document")]
    Document(#[source] serde_json::Error),
    /// The document exceeds the size limit.
    #[error("the registry sent a document of more than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// The registry cannot be reached.
    #[error("the registry cannot be reached")]
    Unreachable(#[source] reqwest::Error),
}

impl From<reqwest::Error> for WebError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// A registry, by the host that serves it.
pub(crate) struct Web {
    client: Client,
    /// `https://HOST`
    base: String,
    /// `http://HOST`, if the registry may have no TLS.
    plain: Option<String>,
    credentials: Option<Credentials>,
}

/// A document, and the path of the one that continues it.
pub(crate) struct Page<T> {
    pub(crate) content: T,
    pub(crate) next: Option<String>,
}

/// The client for a registry, `host[:port]`.
pub(crate) fn client(registry: &str, options: &RegistryOptions) -> Result<Client, reqwest::Error> {
    install_crypto_provider();
    let client = Client::builder()
        .tls_danger_accept_invalid_certs(options.skip_tls_verification)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("mimeo/", env!("CARGO_PKG_VERSION")));
    if name::is_loopback(registry) { client.no_proxy() } else { client }.build()
}

/// Whether the registry is accessed over plain HTTP.
pub(crate) fn is_plain(registry: &str, options: &RegistryOptions) -> bool {
    name::is_loopback(registry) || options.insecure_registries.iter().any(|insecure| insecure == registry)
}

impl Web {
    /// The registry `registry`, which is served by `host`.
    pub(crate) fn new(registry: &str, host: &str, options: &RegistryOptions) -> Result<Self, WebError> {
        let is_plain = is_plain(registry, options);
        let credentials = match &options.credentials {
            Some(credentials) => Some(credentials.clone()),
            None => credentials::stored(registry, options.auth_file.as_deref())?,
        };
        let scheme = if is_plain { "http" } else { "https" };
        Ok(Self {
            client: client(registry, options)?,
            base: format!("{scheme}://{host}"),
            plain: (options.skip_tls_verification && !is_plain).then(|| format!("http://{host}")),
            credentials,
        })
    }

    /// Fetches a document by its path and query.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, WebError> {
        let reply = match (self.request(&format!("{}{path}", self.base)).await, &self.plain) {
            // It may have no TLS at all.
            (Err(WebError::Unreachable(error)), Some(plain)) if error.is_connect() => {
                self.request(&format!("{plain}{path}")).await
            }
            (reply, _) => reply,
        }?;
        let next = reply.headers().get(LINK).and_then(|value| next_path(value.to_str().ok()?));
        let content = serde_json::from_slice(&body(reply).await?).map_err(WebError::Document)?;
        Ok(Page { content, next })
    }

    /// Sends a request, again with a login if the registry asks for one.
    async fn request(&self, url: &str) -> Result<Response, WebError> {
        let reply = self.client.get(url).send().await?;
        if reply.status() != StatusCode::UNAUTHORIZED {
            return accepted(reply);
        }
        let header = reply.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default().to_owned();
        let (kind, parameters) = header.split_once(' ').unwrap_or((&header, ""));
        let request = self.client.get(url);
        match kind.to_ascii_lowercase().as_str() {
            "basic" if self.credentials.is_none() => Err(WebError::Refused),
            "basic" => accepted(self.with_login(request).send().await?),
            "bearer" => {
                let token = self.token(&parse_parameters(parameters), &header).await?;
                accepted(request.bearer_auth(token).send().await?)
            }
            _ => Err(WebError::Challenge { challenge: header }),
        }
    }

    async fn token(&self, asked: &BTreeMap<String, String>, challenge: &str) -> Result<String, WebError> {
        /// Either name is in use, and some servers send both.
        #[derive(serde::Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let unsupported = || WebError::Challenge { challenge: challenge.to_owned() };
        let realm = asked.get("realm").ok_or_else(unsupported)?;
        let pairs = ["service", "scope"].into_iter().filter_map(|key| Some((key, asked.get(key)?.as_str())));
        let url = with_query(realm, pairs).map_err(|_| unsupported())?;
        let reply = accepted(self.with_login(self.client.get(url)).send().await?)?;
        let token: Token = serde_json::from_slice(&body(reply).await?).map_err(WebError::Document)?;
        token.token.or(token.access_token).ok_or_else(unsupported)
    }

    fn with_login(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }
}

fn accepted(reply: Response) -> Result<Response, WebError> {
    match reply.status() {
        status if status.is_success() => Ok(reply),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(WebError::Refused),
        status => Err(WebError::Status { status }),
    }
}

async fn body(mut reply: Response) -> Result<Vec<u8>, WebError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reply.chunk().await? {
        if bytes.len() as u64 + chunk.len() as u64 > MAX_DOCUMENT {
            return Err(WebError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The path of `<URL>; rel="next"`. The host that it may name is not asked.
fn next_path(link: &str) -> Option<String> {
    let target = link.strip_prefix('<')?.split_once('>')?.0;
    let base = reqwest::Url::parse("http://registry.invalid/").ok()?;
    let url = base.join(target).ok()?;
    Some(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_same_host() {
        let next = |link| next_path(link);
        assert_eq!(next(r#"</v2/_catalog?last=a&n=2>; rel="next""#).unwrap(), "/v2/_catalog?last=a&n=2");
        assert_eq!(next(r#"<https://other.test/v2/x>; rel="next""#).unwrap(), "/v2/x");
        assert_eq!(next("nonsense"), None);
    }
}
