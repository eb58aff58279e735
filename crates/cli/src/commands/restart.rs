//! `mimeo restart`: stops machines, if they run, and starts them again.

use mimeo_engine::Found;

use crate::backend::{FindFailure, Host};
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
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let all = args.all || args.running;
    let is_candidate = |found: &Found| !args.running || found.supervised && found.record.phase().is_live();
    let machines = args.machines.find_matching(host, all, &args.filter, is_candidate).await?;
    let restart = move |host: Host, found: Result<Found, FindFailure>| async move {
        host.restart(&found?, args.time).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, restart).await)
}
