//! `mimeo wait`: waits until machines exit.

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// Arguments of `mimeo wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo wait job   # prints its exit code")]
pub(crate) struct Args {
    /// Do not fail for machines that do not exist
    #[arg(long)]
    ignore: bool,
    /// Accepted for compatibility with podman: mimeo does not poll
    #[arg(short, long, hide = true, value_name = "TIME")]
    interval: Option<String>,
    /// What to wait for: a machine's end is the only condition
    #[arg(long, value_name = "STATE", value_parser = ["exited", "stopped"])]
    condition: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Waits for each machine and prints its container's exit code.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let mut machines = args.machines.find(host).await?;
    if args.ignore {
        machines.retain(|(_, found)| found.is_ok());
    }
    let wait = |host: Host, found: Result<_, FindFailure>| async move {
        let exit = host.wait(&found?).await?;
        Ok(Some(exit.code.to_string()))
    };
    Ok(for_each(host, machines, wait).await)
}
