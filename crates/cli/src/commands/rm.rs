//! `mimeo rm`: removes machines and their files.

use mimeo_engine::Engine;
use mimeo_engine::act::{self, ActError};
use mimeo_engine::machine::{FindError, Found, Refusal};

use crate::commands::select::{Machines, for_each};
use crate::error::CliError;

/// podman's exit code if there is no such machine.
const NO_SUCH: i32 = 1;
/// podman's exit code if the machine is running.
const RUNNING: i32 = 2;

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
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let mut machines = args.machines.find_matching(engine, args.all, &args.filter, |_| true)?;
    if args.ignore || args.force {
        machines.retain(|(_, found)| !matches!(found, Err(FindError::None(_))));
    }
    let (force, time) = (args.force, args.time);
    let remove = move |engine, found| async move {
        remove(&engine, found, force, time).await?;
        Ok(None)
    };
    Ok(for_each(engine, machines, remove).await)
}

async fn remove(
    engine: &Engine,
    found: Result<Found, FindError>,
    force: bool,
    time: Option<u32>,
) -> Result<(), CliError> {
    let found = match found {
        Ok(found) => found,
        Err(FindError::Unreadable { id, .. }) if force => return Ok(act::remove_unreadable(engine, &id)?),
        Err(error @ FindError::None(_)) => return Err(CliError::from(error).with_code(NO_SUCH)),
        Err(error) => return Err(error.into()),
    };
    match act::remove(engine, &found, force, time).await {
        Err(error @ ActError::Refused { refusal: Refusal::Running, .. }) => {
            Err(CliError::from(error).with_code(RUNNING))
        }
        other => Ok(other?),
    }
}
