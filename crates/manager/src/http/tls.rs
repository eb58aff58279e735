//! TLS: the certificate, which is read again on request.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::settings::Tls;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the certificate cannot be read.
    #[error("cannot read the certificate {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("cannot read the certificate {}: it has no certificate in PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file of the key cannot be read.
    #[error("cannot read the private key {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// They cannot be used together.
    #[error("cannot use the certificate {} with the private key {}", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The certificate that new connections get.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    files: Tls,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    /// Reads the files.
    pub(crate) fn read(files: Tls) -> Result<Self, TlsError> {
        let current = Arc::new(RwLock::new(Arc::new(read(&files)?)));
        Ok(Self { files, current })
    }

    /// Reads the files again, for new connections. If they cannot be used, the certificate stays the same.
    pub(crate) fn reload(&self) {
        match read(&self.files) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!(component = "http", "read the certificate again");
            }
            Err(error) => {
                let error = mimeo_engine::cause::chain(&error);
                tracing::error!(
                    component = "http",
                    error,
                    "cannot use the new certificate, using the old one"
                );
            }
        }
    }

    /// What accepts a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(files: &Tls) -> Result<ServerConfig, TlsError> {
    let Tls { certificate, key } = files;
    let certificate_error = |source| TlsError::Certificate { path: certificate.clone(), source };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(certificate_error)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(certificate_error)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.clone() });
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Key { path: key.clone(), source })?;
    let mismatch = |source| TlsError::Mismatch { certificate: certificate.clone(), key: key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private).map_err(mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
