//! `mimeo manager`: machines over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mimeo_engine::Engine;
use mimeo_manager::{Address, DEFAULT_LISTEN, Limits, Settings, Started, Tls, serve};
use serde_json::{Value, json};

use crate::commands::system::info;
use crate::commands::version;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo manager`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo manager\n  mimeo manager --socket /run/mimeo/manager.sock\n  mimeo manager --listen 0.0.0.0:18080 \
                  --tls-cert cert.pem --tls-key key.pem --database postgres://mimeo@db/mimeo"
)]
pub(crate) struct Args {
    /// TCP address to listen on; none for no TCP. Sockets that systemd passes replace it
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = DEFAULT_LISTEN.to_string())]
    listen: String,
    /// Unix socket to listen on, too. Its clients are administrators: only its owner can connect, unless its mode is
    /// changed
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Database: sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE. Default: sqlite:MIMEO_HOME/mimeo.db
    #[arg(long, value_name = "ADDRESS", env = "MIMEO_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Certificate for TLS, with those of its authorities (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen without TLS on an address that other hosts can reach: who reads the network reads the tokens
    #[arg(long)]
    allow_plain_http: bool,
    /// Requests of each user and second that are answered, twice as many at once; 0 for no limit
    #[arg(long, value_name = "REQUESTS", default_value_t = Limits::default().requests_per_second)]
    rate_limit: u32,
    /// Seconds that a client may take to send a request's headers, and each part of its body
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    client_timeout: u32,
    /// Days for which events are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=36500))]
    keep_events: u32,
    /// Name that the manager answers to, besides addresses and localhost; can be repeated
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
}

/// Runs the manager until it is ended.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let settings = settings(engine, args)?;
    serve(engine.clone(), settings, announce).await?;
    Ok(0)
}

fn settings(engine: &Engine, args: Args) -> Result<Settings, CliError> {
    let database = match args.database {
        None => Address::Sqlite(engine.home().home().join("mimeo.db")),
        Some(text) => text.parse().map_err(|error| CliError::usage(format!("--database: {error}")))?,
    };
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| Tls { certificate, key });
    let limits = Limits {
        requests_per_second: args.rate_limit,
        client_timeout: Duration::from_secs(args.client_timeout.into()),
    };
    let days = u64::from(args.keep_events);
    Ok(Settings {
        listen: listen_address(&args.listen)?,
        socket: args.socket,
        database,
        tls,
        allowed_hosts: args.allowed_host,
        allow_plain_http: args.allow_plain_http,
        limits,
        keep_events: (days > 0).then(|| Duration::from_secs(days * 24 * 3600)),
        describe_host,
    })
}

/// What `version` and `info` show of this host. What cannot be found out is absent.
fn describe_host(engine: &Engine) -> Value {
    json!({ "version": version::local_fields(engine), "info": info::local_info(engine).ok() })
}

fn listen_address(text: &str) -> Result<Option<SocketAddr>, CliError> {
    if text == "none" {
        return Ok(None);
    }
    let address = text.parse().map(Some);
    address.map_err(|_| {
        CliError::usage(format!("--listen {text:?} is not an address and a port, such as 127.0.0.1:18080"))
    })
}

/// Prints what the administrator must know. That it cannot be printed does not stop the manager.
fn announce(started: &Started) {
    for address in &started.addresses {
        output::line(format!("listening on {address}")).ok();
    }
    if let Some(token) = &started.first_token {
        output::line(format!("token of the user admin, shown only now: {token}")).ok();
    }
    output::line("ready").ok();
}
