//! `mimeo unpause`: resumes machines' vCPUs.

use mimeo_engine::machine::Phase;

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo unpause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo unpause web")]
pub(crate) struct Args {
    /// All paused machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Resumes each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let machines = args.machines.find_matching(host, args.all, &args.filter, |found| {
        matches!(found.record.phase(), Phase::Paused | Phase::DiskError)
    });
    let machines = machines.await?;
    let act = |host: Host, found: Result<_, FindFailure>| async move {
        host.unpause(&found?).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, act).await)
}
