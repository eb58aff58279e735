//! `mimeo pause`: stops machines' vCPUs.

use mimeo_engine::machine::Phase;

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo pause web")]
pub(crate) struct Args {
    /// All running machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Pauses each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let machines = args
        .machines
        .find_matching(host, args.all, &args.filter, |found| found.record.phase() == Phase::Running)
        .await?;
    let act = |host: Host, found: Result<_, FindFailure>| async move {
        host.pause(&found?).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, act).await)
}
