//! `mimeo stop`: stops machines.

use mimeo_engine::act::StopOptions;
use mimeo_engine::control::StopPurpose;

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo stop web\n  mimeo stop --time 0 web db\n  mimeo stop --all")]
pub(crate) struct Args {
    /// Seconds to wait before SIGKILL; by default the machine's --stop-timeout (10)
    #[arg(short = 't', long, value_name = "SECONDS")]
    time: Option<u32>,
    /// All running machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    /// Stop the machines for a reboot of the host: their restart policies apply after that
    #[arg(long)]
    for_reboot: bool,
    /// Do not fail for machines that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Stops each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let machines = args.machines.find_matching(host, args.all, &args.filter, |found| {
        found.supervised && found.record.phase().is_live()
    });
    let mut machines = machines.await?;
    if args.ignore {
        machines.retain(|(_, found)| found.is_ok());
    }
    let stop = move |host: Host, found: Result<_, FindFailure>| async move {
        let purpose = if args.for_reboot { StopPurpose::Reboot } else { StopPurpose::User };
        let options = StopOptions { timeout: args.time, purpose };
        host.stop(&found?, options).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, stop).await)
}
