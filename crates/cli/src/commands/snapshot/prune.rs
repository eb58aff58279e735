//! `mimeo snapshot prune`: removes unused snapshots.

use mimeo_engine::{Engine, garbage};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo snapshot prune\n  mimeo snapshot prune --all")]
pub(crate) struct Args {
    /// Also remove unused snapshots made by `snapshot create`, and current boot snapshots
    #[arg(short, long)]
    all: bool,
}

/// Removes the snapshots and prints the id of each.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    garbage::prune(engine, args.all)?.iter().try_for_each(|removed| output::line(removed.id.short()))?;
    Ok(0)
}
