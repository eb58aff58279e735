//! `mimeo pause`: stops machines' vCPUs.

use mimeo_engine::machine::Phase;
use mimeo_engine::{Engine, act};

use crate::commands::select::{Machines, find_all, find_each, for_each};
use crate::error::CliError;

/// Arguments of `mimeo pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo pause web")]
pub(crate) struct Args {
    /// All running machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Pauses each machine.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let machines = if args.all {
        find_all(engine, |found| found.record.phase() == Phase::Running)?
    } else {
        find_each(engine, args.machines.selectors()?)
    };
    let act = |engine: Engine, found: Result<_, _>| async move {
        act::pause(&engine, &found?).await?;
        Ok(None)
    };
    Ok(for_each(engine, machines, act).await)
}
