//! How a manager is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mimeo_engine::Engine;

use crate::database::Address;

/// Describes the host, for the command line: what `mimeo version` and `mimeo info` show of it.
pub type DescribeHost = fn(&Engine) -> serde_json::Value;

/// How a manager is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The TCP address to listen on, unless systemd passes sockets.
    pub listen: Option<SocketAddr>,
    /// The Unix socket, whose clients are administrators.
    pub socket: Option<PathBuf>,
    /// The database.
    pub database: Address,
    /// The certificate for TLS.
    pub tls: Option<Tls>,
    /// Names that the manager answers to, besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
    /// Whether to listen without TLS on addresses that other hosts can reach.
    pub allow_plain_http: bool,
    /// What clients may use.
    pub limits: Limits,
    /// How long events are kept; forever if absent.
    pub keep_events: Option<Duration>,
    /// Describes the host.
    pub describe_host: DescribeHost,
}

/// What clients may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests of each user and second; twice as many at once. 0 for no limit.
    pub requests_per_second: u32,
    /// How long a client may take to send a request's headers, and each part of its body.
    pub client_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: 500, client_timeout: Duration::from_secs(30) }
    }
}

/// A certificate for TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and those of its authorities, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}
