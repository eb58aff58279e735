//! `mimeo restart`: stops machines, if they run, and starts them again.

use mimeo_engine::{Engine, FindError, Found, act};

use super::start::start_error;
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo restart web\n  mimeo restart --time 0 --running")]
pub(crate) struct Args {
    /// Seconds to wait before SIGKILL; by default the machine's --stop-timeout (10)
    #[arg(short = 't', long, value_name = "SECONDS")]
    time: Option<u32>,
    /// All machines, also those that do not run
    #[arg(short, long, conflicts_with_all = ["names", "pid", "running"])]
    all: bool,
    /// All running machines
    #[arg(long, conflicts_with_all = ["names", "pid"])]
    running: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Restarts each machine.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let all = args.all || args.running;
    let is_candidate = |found: &Found| !args.running || found.supervised && found.record.phase().is_live();
    let machines = args.machines.find_matching(engine, all, &args.filter, is_candidate)?;
    let restart = move |engine: Engine, found: Result<Found, FindError>| async move {
        act::restart(&engine, &found?, args.time).await.map_err(start_error)?;
        Ok(None)
    };
    Ok(for_each(engine, machines, restart).await)
}
