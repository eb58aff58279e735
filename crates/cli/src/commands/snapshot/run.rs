//! `mimeo snapshot run`: starts clones of a snapshot.

use std::path::PathBuf;

use mimeo_engine::launch_request::CloneOverrides;
use mimeo_engine::machine::MachineName;
use mimeo_engine::snapshot_server::{self, ServeRecord};

use crate::backend::{CloneOutcome, Host, local};
use crate::commands::fork::{clone_overrides, print_outcomes};
use crate::error::CliError;

/// Arguments of `mimeo snapshot run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo snapshot run warm --name one -p 8081:80\n  mimeo snapshot run warm -n 10 --json\n  mimeo snapshot run --pid 4711 --name two"
)]
pub(crate) struct Args {
    /// The snapshot: its tag, its id or the start of its id
    #[arg(required_unless_present = "pid", conflicts_with = "pid")]
    snapshot: Option<String>,
    /// Request the clones from a snapshot server: its process id, or its SERVE_ID as `snapshot ls` shows
    /// it. The clones end with the server, and are removed when they exit
    #[arg(long, value_name = "PID")]
    pid: Option<String>,
    #[command(flatten)]
    options: CloneOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of clones, for `snapshot run` and `fork`.
#[derive(Debug, clap::Args)]
pub(crate) struct CloneOptions {
    /// The clone's name; several clones are named NAME-1, NAME-2, …
    #[arg(long = "name", id = "clone_name", value_name = "NAME")]
    pub(crate) name: Option<MachineName>,
    /// Number of clones: 1 to 1000
    #[arg(short = 'n', long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) count: u32,
    /// Publish a port: [IP:][HOST:]GUEST[/PROTOCOL]; can be repeated. By default the original machine's
    /// ports, on free host ports
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Set an environment variable in the clone's /run/mimeo/env and for `exec`; without a value, it is
    /// copied from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Remove the clone when it exits
    #[arg(long)]
    pub(crate) rm: bool,
}

/// Starts the clones and prints their names.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let overrides = clone_overrides(&args.options)?;
    let cloned = match (&args.snapshot, &args.pid) {
        (_, Some(word)) => {
            let engine = local(host, "use a snapshot server")?;
            run_on_server(&snapshot_server::find(engine, word)?, overrides).await?
        }
        (Some(word), None) => host.clone_snapshot(word, overrides).await?,
        (None, None) => return Err(CliError::usage("no snapshot selected: give its tag or id, or --pid")),
    };
    print_outcomes(&cloned, None, args.json)
}

/// Requests the clones from a server. A server's clones are always removed when they exit.
async fn run_on_server(
    serve: &ServeRecord,
    overrides: Vec<CloneOverrides>,
) -> Result<Vec<CloneOutcome>, CliError> {
    let overrides = overrides.into_iter().map(|overrides| CloneOverrides { remove: true, ..overrides });
    let cloned = snapshot_server::start_clones(serve, overrides.collect()).await?;
    Ok(cloned.into_iter().map(CloneOutcome::from).collect())
}
