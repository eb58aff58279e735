//! `mimeo rename`: gives a machine another name.

use mimeo_engine::Selector;
use mimeo_engine::machine::Changes;

use crate::backend::Host;
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
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let changes = Changes { name: Some(args.new_name.parse()?), ..Changes::default() };
    let found = host.find(&Selector::NameOrId(args.machine)).await?;
    host.edit(&found, &changes).await?;
    Ok(0)
}
