//! `mimeo rename`: gives a machine another name.

use mimeo_engine::machine::Changes;
use mimeo_engine::{Engine, Selector, act};

use crate::error::CliError;

/// Arguments of `mimeo rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo rename web old-web")]
pub(crate) struct Args {
    /// The machine: its name, its id or the start of its id
    machine: String,
    /// The new name
    new_name: String,
}

/// Renames the machine.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let changes = Changes { name: Some(args.new_name.parse()?), ..Changes::default() };
    let found = engine.registry().find(&Selector::NameOrId(args.machine))?;
    act::edit(engine, &found, &changes).await?;
    Ok(0)
}
