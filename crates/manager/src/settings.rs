//! How a manager is started.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::database::Address;

/// How a manager is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The TCP address to listen on, unless systemd passes sockets.
    pub listen: Option<SocketAddr>,
    /// The Unix socket; whoever may connect to it is an administrator.
    pub socket: Option<PathBuf>,
    /// The database.
    pub database: Address,
    /// The certificate for TLS.
    pub tls: Option<Tls>,
    /// Names that the manager answers to, besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
}

/// A certificate for TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and those of its authorities, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}
