//! `mimeo snapshot run`: copies of a snapshot, side by side.

use std::path::PathBuf;

use mimeo_engine::machine::MachineName;
use mimeo_engine::order::CloneWishes;
use mimeo_engine::serve::{self, ServeRecord};
use mimeo_engine::{Engine, act};

use crate::commands::fork::{clone_overrides, print_outcomes};
use crate::error::CliError;

/// Arguments of `mimeo snapshot run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo snapshot run warm --name one -p 8081:80\n  mimeo snapshot run warm -n 10 --json\n  mimeo snapshot run --pid 4711 --name two"
)]
pub(crate) struct Args {
    /// The snapshot: its tag, its id, or the beginning of its id
    #[arg(required_unless_present = "pid", conflicts_with = "pid")]
    snapshot: Option<String>,
    /// Ask the server with this process id (or its SERVE_ID): its copies end with it, and are removed when they end
    #[arg(long, value_name = "PID")]
    pid: Option<String>,
    #[command(flatten)]
    options: CloneOptions,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What may be asked of copies.
#[derive(Debug, clap::Args)]
pub(crate) struct CloneOptions {
    /// The copy's name; of several the beginning of their names: NAME-1, NAME-2, …
    #[arg(long = "name", id = "clone_name", value_name = "NAME")]
    pub(crate) name: Option<MachineName>,
    /// How many: 1 to 1000
    #[arg(short = 'n', long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) count: u32,
    /// Publish a port: [IP:][HOST:]GUEST[/PROTOCOL]; may be given again. Otherwise its original's, at free ports of the host
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Set a variable of what is run in the copy, and of its /run/mimeo/env; without a value, as it is here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables of a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Remove the copy when it has ended
    #[arg(long)]
    pub(crate) rm: bool,
}

/// Starts the copies and prints their names.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let overrides = clone_overrides(&args.options)?;
    let cloned = match (&args.snapshot, &args.pid) {
        (_, Some(word)) => run_on_server(&serve::find(engine, word)?, overrides).await?,
        (Some(word), None) => {
            let snapshot = engine.snapshots().find(word)?;
            act::clone(engine, &snapshot.manifest.id, overrides).await
        }
        (None, None) => return Err(CliError::usage("name a snapshot, or give --pid")),
    };
    print_outcomes(&cloned, None, args.json)
}

/// What a server starts goes with it: nothing of it is kept.
async fn run_on_server(
    serve: &ServeRecord,
    overrides: Vec<CloneWishes>,
) -> Result<Vec<mimeo_engine::Cloned>, CliError> {
    let overrides = overrides.into_iter().map(|overrides| CloneWishes { remove: true, ..overrides });
    Ok(serve::run(serve, overrides.collect()).await?)
}
