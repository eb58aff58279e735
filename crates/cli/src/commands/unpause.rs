//! `mimeo unpause`: resumes machines' vCPUs.

use mimeo_engine::machine::Phase;
use mimeo_engine::{Engine, act};

use crate::commands::select::{Machines, find_all, find_each, for_each};
use crate::error::CliError;

/// Arguments of `mimeo unpause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo unpause web")]
pub(crate) struct Args {
    /// All paused machines
    #[arg(short, long, conflicts_with_all = ["names", "pid"])]
    all: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Resumes each machine.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let machines = if args.all {
        find_all(engine, |found| matches!(found.record.phase(), Phase::Paused | Phase::DiskError))?
    } else {
        find_each(engine, args.machines.selectors()?)
    };
    let act = |engine: Engine, found: Result<_, _>| async move {
        act::unpause(&engine, &found?).await?;
        Ok(None)
    };
    Ok(for_each(engine, machines, act).await)
}
