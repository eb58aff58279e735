//! `mimeo manager`: machines over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use mimeo_engine::Engine;
use mimeo_manager::{Address, DEFAULT_LISTEN, Settings, Started, Tls, serve};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo manager`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo manager\n  mimeo manager --socket /run/mimeo/manager.sock\n  mimeo manager --listen 0.0.0.0:18080 \
                  --tls-cert cert.pem --tls-key key.pem --database postgres://mimeo@db/mimeo"
)]
pub(crate) struct Args {
    /// TCP address to listen on; none for no TCP
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = DEFAULT_LISTEN.to_string())]
    listen: String,
    /// Unix socket to listen on, too. Whoever may connect to it is an administrator: only its owner, unless its mode is
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
    let listen = listen_address(&args.listen)?;
    Ok(Settings { listen, socket: args.socket, database, tls, allowed_hosts: args.allowed_host })
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
