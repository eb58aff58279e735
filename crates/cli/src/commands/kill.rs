//! `mimeo kill`: sends a signal to machines' containers.

use mimeo_engine::signal;

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo kill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo kill web\n  mimeo kill --signal HUP web")]
pub(crate) struct Args {
    /// The signal, by name (HUP, SIGTERM, RTMIN+3) or number
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL")]
    signal: String,
    /// All running machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Sends the signal to each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let signal = signal::parse(&args.signal)?;
    let machines =
        args.machines.find_matching(host, args.all, &args.filter, |found| found.supervised).await?;
    let kill = move |host: Host, found: Result<_, FindFailure>| async move {
        host.kill(&found?, signal).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, kill).await)
}
