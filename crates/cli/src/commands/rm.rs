//! `mimeo rm`: removes machines and their files.

use mimeo_engine::{FindError, Found};

use crate::backend::{FindFailure, Host};
use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// podman's exit code if there is no such machine.
const NO_SUCH: i32 = 1;

/// Arguments of `mimeo rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo rm job\n  mimeo rm --force web\n  mimeo rm --all")]
pub(crate) struct Args {
    /// Kill running machines first, or stop them if --time is given; do not fail for machines that do
    /// not exist
    #[arg(short, long)]
    force: bool,
    /// With --force: seconds that the container has to exit before it is killed
    #[arg(short = 't', long, value_name = "SECONDS", requires = "force")]
    time: Option<u32>,
    /// All machines; running ones only with --force
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    /// Do not fail for machines that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// Accepted for compatibility with podman: a machine's anonymous volumes are always removed with it
    #[arg(short, long)]
    volumes: bool,
    /// Accepted for compatibility with podman: machines do not depend on each other
    #[arg(long, hide = true)]
    depend: bool,
    /// Machines that match, as for `mimeo ps`; can be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Removes each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let mut machines = args.machines.find_matching(host, args.all, &args.filter, |_| true).await?;
    if args.ignore || args.force {
        machines.retain(|(_, found)| !found.as_ref().is_err_and(FindFailure::is_none));
    }
    let (force, time) = (args.force, args.time);
    let remove = move |host, found| async move {
        remove(&host, found, force, time).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, remove).await)
}

async fn remove(
    host: &Host,
    found: Result<Found, FindFailure>,
    force: bool,
    time: Option<u32>,
) -> Result<(), CliError> {
    let found = match found {
        Ok(found) => found,
        Err(FindFailure::Find(FindError::Unreadable { id, .. })) if force => {
            return host.remove_unreadable(&id).await;
        }
        Err(error) if error.is_none() => return Err(CliError::from(error).with_code(NO_SUCH)),
        Err(error) => return Err(error.into()),
    };
    host.remove(&found, force, time).await
}
