//! The registry client: manifests, configurations and blobs, with retries of transient errors.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError as ClientError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::sync::watch;

use crate::credentials::{self, Credentials, CredentialsError};
use crate::digest::Digest;
use crate::limits::MAX_DOCUMENT;
use crate::manifest::{ACCEPTED, Descriptor};
use crate::name::{ImageName, Repository};
use crate::stall::{unless_stalled, watched};

/// The host of Docker Hub's registry, which has another name than its images.
pub(crate) const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// Timeout for connecting to a registry.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without data, or a small request without a reply, for this long is closed and the request retried.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// An upload without progress for this long is ended and retried. A registry checks and moves a whole layer before it
/// replies.
const UPLOAD_STALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Attempts for a document, and consecutive attempts for a layer without progress.
pub(crate) const MAX_ATTEMPTS: u32 = 5;
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// How registries are accessed.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Registries, as `host[:port]`, that are accessed over plain HTTP. Those on a loopback address always are.
    pub insecure_registries: Vec<String>,
    /// Accept any certificate, and use plain HTTP where there is no TLS.
    pub skip_tls_verification: bool,
    /// Credentials that replace those of docker's and podman's login files.
    pub credentials: Option<Credentials>,
    /// A login file that replaces the usual ones.
    pub auth_file: Option<PathBuf>,
}

/// What a registry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// Why there is no connection to a registry.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Credentials(CredentialsError),
    Registry(RegistryError),
}

/// A client of one image's registry.
pub(crate) struct Registry {
    pub(super) client: Client,
    pub(super) name: ImageName,
}

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection: wrong name, no network, no listener, no TLS.
    #[error("the registry cannot be reached")]
    Unreachable(#[source] ClientError),
    /// The registry requires a login, or another one.
    #[error("the registry refuses access: log in, or check the name")]
    Refused(#[source] ClientError),
    /// The registry has no such image, tag or layer.
    #[error("the registry does not have it")]
    NotFound(#[source] ClientError),
    /// Any other unexpected reply, or too many broken connections.
    #[error("the registry sent an unexpected reply")]
    Failed(#[source] ClientError),
    /// A file of the store that is sent cannot be read.
    #[error("{} cannot be read", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The content has another digest than requested.
    #[error("the registry sent content of the digest {actual} for {expected}")]
    WrongDigest {
        /// The requested digest.
        expected: Digest,
        /// The computed digest.
        actual: Digest,
    },
    /// The content has another size than the manifest says.
    #[error("the registry sent {actual} bytes where the manifest says {expected}")]
    WrongSize {
        /// The size in the manifest.
        expected: u64,
        /// The received size.
        actual: u64,
    },
    /// A manifest or configuration exceeds the size limit.
    #[error("a document of {bytes} bytes is over the limit of {limit}")]
    DocumentTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The connection broke too often.
    #[error("the connection was interrupted {attempts} times without progress")]
    Interrupted {
        /// The number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: std::io::Error,
    },
}

impl RegistryError {
    pub(crate) fn from_client(error: ClientError) -> Self {
        match &error {
            ClientError::RequestError(request) if request.is_connect() => Self::Unreachable(error),
            ClientError::RequestError(request) if matches!(status(request), Some(401 | 403)) => {
                Self::Refused(error)
            }
            ClientError::RequestError(request) if status(request) == Some(404) => Self::NotFound(error),
            ClientError::AuthenticationFailure(_) | ClientError::UnauthorizedError { .. } => {
                Self::Refused(error)
            }
            ClientError::ImageManifestNotFoundError(_) => Self::NotFound(error),
            ClientError::ServerError { code: 404, .. } => Self::NotFound(error),
            ClientError::ServerError { code: 401 | 403, .. } => Self::Refused(error),
            ClientError::RegistryError { envelope, .. } if envelope.errors.iter().any(is_missing) => {
                Self::NotFound(error)
            }
            ClientError::RegistryError { envelope, .. } if envelope.errors.iter().any(is_denied) => {
                Self::Refused(error)
            }
            _ => Self::Failed(error),
        }
    }

    /// Whether a retry of the request may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Failed(ClientError::IoError(_)) | Self::Interrupted { .. } => true,
            Self::Failed(ClientError::RequestError(request)) => status(request).is_none_or(is_busy),
            Self::Failed(ClientError::ServerError { code, .. }) => is_busy(*code),
            Self::Failed(ClientError::RegistryError { envelope, .. }) => {
                use oci_client::errors::OciErrorCode::Toomanyrequests;
                envelope.errors.iter().any(|error| matches!(error.code, Toomanyrequests))
            }
            _ => false,
        }
    }
}

fn status(error: &reqwest::Error) -> Option<u16> {
    error.status().map(|status| status.as_u16())
}

/// Whether a registry that replies this may reply otherwise soon.
fn is_busy(status: u16) -> bool {
    status == 429 || status == 408 || status >= 500
}

fn is_missing(error: &oci_client::errors::OciError) -> bool {
    use oci_client::errors::OciErrorCode as Code;
    matches!(error.code, Code::ManifestUnknown | Code::BlobUnknown | Code::NameUnknown | Code::NotFound)
}

fn is_denied(error: &oci_client::errors::OciError) -> bool {
    use oci_client::errors::OciErrorCode as Code;
    matches!(error.code, Code::Denied | Code::Unauthorized)
}

/// The delay before the retry with this number: doubles, up to a limit.
pub(crate) fn retry_delay(attempt: u32) -> Duration {
    FIRST_RETRY_DELAY.saturating_mul(1 << attempt.min(8)).min(MAX_RETRY_DELAY)
}

impl From<Access> for RegistryOperation {
    fn from(access: Access) -> Self {
        match access {
            Access::Pull => Self::Pull,
            Access::Push => Self::Push,
        }
    }
}

impl Registry {
    /// Connects to the image's registry, and logs in if it requires that.
    pub(crate) async fn connect(
        name: &ImageName,
        options: &RegistryOptions,
        access: Access,
    ) -> Result<Self, ConnectError> {
        let auth = match &options.credentials {
            Some(credentials) => credentials.clone().into(),
            None => {
                credentials::lookup(name, options.auth_file.as_deref()).map_err(ConnectError::Credentials)?
            }
        };
        let connected = Self::open(name, options, &auth, access).await;
        match connected {
            // It may have no TLS at all.
            Err(RegistryError::Unreachable(_)) if options.skip_tls_verification => {
                let insecure_registries = vec![name.registry().to_owned()];
                let plain = RegistryOptions { insecure_registries, ..options.clone() };
                Self::open(name, &plain, &auth, access).await.map_err(ConnectError::Registry)
            }
            connected => connected.map_err(ConnectError::Registry),
        }
    }

    async fn open(
        name: &ImageName,
        options: &RegistryOptions,
        auth: &RegistryAuth,
        access: Access,
    ) -> Result<Self, RegistryError> {
        install_crypto_provider();
        let client =
            Client::try_from(client_config(name, options, access)).map_err(RegistryError::from_client)?;
        let registry = Self { client, name: name.clone() };
        registry.log_in(auth, access).await?;
        Ok(registry)
    }

    async fn log_in(&self, auth: &RegistryAuth, access: Access) -> Result<(), RegistryError> {
        let reference = self.reference(None);
        let request = || async {
            replied(async { self.client.auth(&reference, auth, access.into()).await.map(drop) }).await
        };
        with_retries(request).await
    }

    /// Fetches a manifest or index by digest; without one, by the image's name.
    pub(crate) async fn manifest(&self, digest: Option<Digest>) -> Result<(Vec<u8>, Digest), RegistryError> {
        let reference = self.reference(digest);
        // The client keeps the credentials of the login.
        let request = || self.client.pull_manifest_raw(&reference, &RegistryAuth::Anonymous, &ACCEPTED);
        let (bytes, _) = with_retries(request).await?;
        check_document_size(bytes.len() as u64)?;
        let actual = Digest::compute(&bytes);
        match digest.or(self.name.digest()) {
            Some(expected) if expected != actual => Err(RegistryError::WrongDigest { expected, actual }),
            _ => Ok((bytes.to_vec(), actual)),
        }
    }

    /// Fetches a small blob: the configuration.
    pub(crate) async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        check_document_size(descriptor.size)?;
        let mut attempt = 0;
        loop {
            match self.document_once(descriptor).await {
                Err(error) if error.is_transient() && attempt + 1 < MAX_ATTEMPTS => {
                    tokio::time::sleep(retry_delay(attempt)).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn document_once(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let mut stream = match self.blob(descriptor.digest, 0).await? {
            BlobResponse::Full(stream) | BlobResponse::Partial(stream) => stream,
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(
                &chunk.map_err(|source| RegistryError::Interrupted { attempts: 1, source })?,
            );
            check_document_size(bytes.len() as u64)?;
        }
        let actual = Digest::compute(&bytes);
        if actual != descriptor.digest {
            return Err(RegistryError::WrongDigest { expected: descriptor.digest, actual });
        }
        Ok(bytes)
    }

    /// Streams a blob from `offset` if the registry supports range requests, otherwise from the start.
    pub(crate) async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobResponse, RegistryError> {
        let digest = digest.to_string();
        let reference = self.reference(None);
        self.client
            .pull_blob_stream_partial(&reference, digest.as_str(), offset, None)
            .await
            .map_err(RegistryError::from_client)
    }

    /// Whether the registry has this blob.
    pub(crate) async fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let (reference, digest) = (self.reference(None), digest.to_string());
        with_retries(|| replied(self.client.blob_exists(&reference, &digest))).await
    }

    /// Takes a blob from another repository of the registry.
    pub(crate) async fn mount(&self, from: &Repository, digest: Digest) -> Result<(), RegistryError> {
        let from = Reference::with_tag(from.registry.clone(), from.path.clone(), "latest".to_owned());
        let (reference, digest) = (self.reference(None), digest.to_string());
        let mounted = replied(self.client.mount_blob(&reference, &from, &digest)).await;
        mounted.map_err(RegistryError::from_client)
    }

    /// Sends a blob in one request.
    pub(crate) async fn upload<S>(
        &self,
        digest: Digest,
        size: u64,
        stream: impl Fn() -> S,
    ) -> Result<(), RegistryError>
    where
        S: Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
    {
        let (reference, digest) = (self.reference(None), digest.to_string());
        let request = || async {
            let (body, progress) = watched(stream());
            let sent = self.client.push_blob_stream(&reference, body, &digest, Some(size));
            unless_stalled(sent, progress, UPLOAD_STALL_TIMEOUT).await.map(drop)
        };
        with_retries(request).await
    }

    /// Sends a blob in several requests.
    pub(crate) async fn upload_in_chunks<S>(
        &self,
        digest: Digest,
        stream: impl Fn() -> S,
    ) -> Result<(), RegistryError>
    where
        S: Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
    {
        let reference = self.reference(None);
        let request = || async {
            let (body, progress) = watched(stream());
            let sent = self.client.push_blob_stream_chunked(&reference, body);
            unless_stalled(sent, progress, UPLOAD_STALL_TIMEOUT).await
        };
        let sent = with_retries(request).await?;
        match sent.blob_digest.parse() {
            Ok(actual) if actual == digest => Ok(()),
            Ok(actual) => Err(RegistryError::WrongDigest { expected: digest, actual }),
            Err(_) => Err(RegistryError::Failed(ClientError::SpecViolationError(sent.blob_digest))),
        }
    }

    /// Stores a manifest under the image's name, as it is.
    pub(crate) async fn put_manifest(&self, bytes: Vec<u8>, media_type: &str) -> Result<(), RegistryError> {
        let reference = self.reference(None);
        let bytes = Bytes::from(bytes);
        let request = || async {
            let kind = media_type.parse();
            let kind = kind.map_err(|_| ClientError::UnsupportedMediaTypeError(media_type.to_owned()))?;
            replied(self.client.push_manifest_raw(&reference, bytes.clone(), kind)).await.map(drop)
        };
        with_retries(request).await
    }

    pub(super) fn reference(&self, digest: Option<Digest>) -> Reference {
        let (registry, repository) = (self.name.registry().to_owned(), self.name.repository().to_owned());
        match (digest.or(self.name.digest()), self.name.tag()) {
            (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_string()),
            (None, tag) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
        }
    }
}

fn check_document_size(bytes: u64) -> Result<(), RegistryError> {
    if bytes > MAX_DOCUMENT {
        Err(RegistryError::DocumentTooLarge { bytes, limit: MAX_DOCUMENT })
    } else {
        Ok(())
    }
}

/// A small request's reply, which is awaited for [`READ_TIMEOUT`]: a client that pushes has no timeout of its own.
async fn replied<T>(request: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let (_, no_body) = watch::channel(());
    unless_stalled(request, no_body, READ_TIMEOUT).await
}

pub(crate) async fn with_retries<T, F>(mut request: impl FnMut() -> F) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut attempt = 0;
    loop {
        match request().await.map_err(RegistryError::from_client) {
            Err(error) if error.is_transient() && attempt + 1 < MAX_ATTEMPTS => {
                tracing::debug!(attempt, %error, "retrying a request to the registry");
                tokio::time::sleep(retry_delay(attempt)).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Installs rustls's process-wide crypto provider.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if another thread has just installed one, which serves as well.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}

fn client_config(name: &ImageName, options: &RegistryOptions, access: Access) -> ClientConfig {
    let registry = name.registry().to_owned();
    let plain = name.is_loopback() || options.insecure_registries.contains(&registry);
    let protocol = if plain { ClientProtocol::HttpsExcept(vec![registry]) } else { ClientProtocol::Https };
    // A proxy from the environment cannot reach this host's loopback. The client can only be kept from using one by
    // naming another proxy, which is never used.
    let proxy = |text: &str| name.is_loopback().then(|| text.to_owned());
    ClientConfig {
        protocol,
        // One request for a whole layer; registries that limit requests get chunks.
        use_monolithic_push: true,
        accept_invalid_certificates: options.skip_tls_verification,
        connect_timeout: Some(CONNECT_TIMEOUT),
        // It would end uploads that make progress.
        read_timeout: (access == Access::Pull).then_some(READ_TIMEOUT),
        user_agent: concat!("mimeo/", env!("CARGO_PKG_VERSION")),
        http_proxy: proxy("http://127.0.0.1:9"),
        no_proxy: proxy("*,localhost,127.0.0.0/8,::1"),
        ..ClientConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pulls_have_a_read_timeout() {
        let (name, options) = ("registry.test/app".parse().unwrap(), RegistryOptions::default());
        assert_eq!(client_config(&name, &options, Access::Pull).read_timeout, Some(READ_TIMEOUT));
        assert_eq!(client_config(&name, &options, Access::Push).read_timeout, None);
    }

    #[test]
    fn retry_delays_double_up_to_a_limit() {
        assert_eq!(retry_delay(0), Duration::from_millis(200));
        assert_eq!(retry_delay(1), Duration::from_millis(400));
        assert_eq!(retry_delay(30), MAX_RETRY_DELAY);
    }
}
