//! `mimeo snapshot inspect`: shows details of snapshots.

use mimeo_engine::Engine;

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo snapshot inspect warm")]
pub(crate) struct Args {
    /// The snapshots: tags, ids or starts of ids
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

/// Prints the snapshots' manifests as a JSON array.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let store = engine.snapshots();
    let found = args.snapshots.iter().map(|word| Ok(store.find(word)?.manifest));
    output::json(&found.collect::<Result<Vec<_>, CliError>>()?)?;
    Ok(0)
}
