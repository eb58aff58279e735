//! Requests to a manager.

use std::time::Duration;

use mimeo_manager_api::{Accepted, Item, Items, Operation, OperationStatus, Problem};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::RemoteError;
use crate::backend::target::{Address, Target};
use crate::error::CliError;
use crate::interruption::Interruption;

/// How long a connection to the manager may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds that the manager waits for an operation before it answers that it is not finished.
const WAIT_SECONDS: u32 = 60;

/// A client of a manager.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    base: String,
    token: Option<HeaderValue>,
    address: String,
}

impl Http {
    /// A client of the manager at this address. It connects with the first request.
    pub(crate) fn new(target: &Target) -> Result<Self, CliError> {
        mimeo_image::install_crypto_provider();
        // A proxy for the web is none for the own host's machines.
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("mimeo/", env!("CARGO_PKG_VERSION")));
        let (client, base) = match &target.address {
            Address::Web(url) => (client, url.trim_end_matches('/').to_owned()),
            Address::Unix(path) => (client.unix_socket(path.as_path()), "http://localhost".to_owned()),
        };
        let client = match &target.ca {
            Some(file) => client.tls_certs_only(certificates(file)?),
            None => client,
        };
        let token = target.token.as_ref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| CliError::usage("the token for the manager has characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, CliError>(value)
        });
        Ok(Self {
            client: client.build()?,
            base,
            token: token.transpose()?,
            address: target.address.to_string(),
        })
    }

    /// The manager's address, for errors.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A request; `path` begins with `/` and is encoded.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        }
    }

    /// Sends a request. An answer that is no success is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, RemoteError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        if response.status().is_success() || response.status().is_informational() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(self.answer(format!("the status {status} without a problem document"))),
        }
    }

    /// Sends a request with this body, as JSON, and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RemoteError> {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => {
                let json = serde_json::to_vec(body).map_err(|error| self.answer(error.to_string()))?;
                request.header(CONTENT_TYPE, "application/json").body(json)
            }
            None => request,
        };
        let body = self.send(request).await?.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|error| self.answer(error.to_string()))
    }

    /// Reads an item.
    pub(crate) async fn item<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        Ok(self.call::<Item<T>>(Method::GET, path, NO_BODY).await?.item)
    }

    /// Reads all items, page by page. The path has a query.
    pub(crate) async fn items<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RemoteError> {
        let mut page: Items<T> = self.call(Method::GET, path, NO_BODY).await?;
        let mut items = std::mem::take(&mut page.items);
        while let Some(cursor) = page.next_cursor {
            page = self.call(Method::GET, &format!("{path}&cursor={}", encode(&cursor)), NO_BODY).await?;
            items.append(&mut page.items);
        }
        Ok(items)
    }

    /// Begins an operation, and waits until it has finished. A signal cancels it; then the error is that of the operation.
    pub(crate) async fn operate(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Operation, RemoteError> {
        let accepted: Accepted<IgnoredAny> = self.call(method, path, body).await?;
        self.finish(accepted.operation).await
    }

    /// Begins an operation with an idempotency key, if there is one, and waits until it has finished.
    pub(crate) async fn operate_once(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        key: Option<String>,
    ) -> Result<Operation, RemoteError> {
        let json = serde_json::to_vec(body).map_err(|error| self.answer(error.to_string()))?;
        let mut request =
            self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(json);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = self.send(request).await?.bytes().await.map_err(|source| self.unreachable(source))?;
        let accepted: Accepted<IgnoredAny> =
            serde_json::from_slice(&body).map_err(|error| self.answer(error.to_string()))?;
        self.finish(accepted.operation).await
    }

    /// Begins an operation that a signal cancels, and waits until it has finished, or was cancelled.
    pub(crate) async fn operate_interruptibly(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Outcome, RemoteError> {
        let mut interruption = Interruption::listen();
        let accepted: Accepted<IgnoredAny> = self.call(Method::POST, path, Some(body)).await?;
        let id = accepted.operation.id.clone();
        tokio::select! {
            finished = self.finish(accepted.operation) => Ok(Outcome::Finished(Box::new(finished?))),
            signal = interruption.received() => {
                self.cancel(&id).await?;
                Ok(Outcome::Interrupted(signal))
            }
        }
    }

    async fn finish(&self, mut operation: Operation) -> Result<Operation, RemoteError> {
        while !operation.status.is_finished() {
            let path = format!("/v1/operations/{}/wait?timeout={WAIT_SECONDS}", encode(&operation.id));
            operation = self.item(&path).await?;
        }
        match (operation.status, &operation.error) {
            (OperationStatus::Succeeded, _) => Ok(operation),
            (_, Some(problem)) => Err(problem.clone().into()),
            (_, None) => Err(self.answer(format!("the operation {} failed without a reason", operation.id))),
        }
    }

    /// Cancels an operation, and waits until what it has done is undone.
    async fn cancel(&self, id: &str) -> Result<(), RemoteError> {
        let path = format!("/v1/operations/{}", encode(id));
        match self.call::<IgnoredAny>(Method::DELETE, &path, NO_BODY).await {
            Err(error) if error.code() == Some("operation-finished") => Ok(()),
            other => other.map(drop),
        }
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> RemoteError {
        // The URL is that of the address, which the error names.
        RemoteError::Unreachable { address: self.address.clone(), source: source.without_url() }
    }

    /// The error for an answer that cannot be used.
    pub(crate) fn answer(&self, reason: impl Into<String>) -> RemoteError {
        RemoteError::Answer { address: self.address.clone(), reason: reason.into() }
    }
}

/// How an operation that can be interrupted has ended.
pub(crate) enum Outcome {
    Finished(Box<Operation>),
    /// This signal has cancelled it.
    Interrupted(i32),
}

/// No body.
pub(crate) const NO_BODY: Option<&()> = None;

/// A part of a path or of a query, encoded.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn certificates(file: &std::path::Path) -> Result<Vec<Certificate>, CliError> {
    let pem = std::fs::read(file)
        .map_err(|source| CliError::io(format!("read --tls-ca {}", file.display()), source))?;
    let certificates = Certificate::from_pem_bundle(&pem)?;
    if certificates.is_empty() {
        return Err(CliError::usage(format!("--tls-ca {} has no certificate (PEM)", file.display())));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_encoded() {
        assert_eq!(encode("docker.io/library/a:1"), "docker.io%2Flibrary%2Fa%3A1");
        assert_eq!(encode("a b&c=ü?"), "a%20b%26c%3D%C3%BC%3F");
    }
}
