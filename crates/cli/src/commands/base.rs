//! `mimeo base`: disk images of whole systems, which machines start from.

pub(crate) mod add;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod rm;
pub(crate) mod row;
pub(crate) mod validate;

use mimeo_base::Store;
use mimeo_engine::Engine;

use crate::error::CliError;

/// Commands for bases.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Add a base from a raw or qcow2 image
    Add(add::Args),
    /// List bases
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show details of bases
    Inspect(inspect::Args),
    /// Remove bases
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Check whether machines can start from a base or an image
    Validate(validate::Args),
}

/// Runs the command.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    let store = Store::at(&engine.home().bases())?;
    match verb {
        Verb::Add(args) => add::run(store, args).await,
        Verb::Ls(args) => ls::run(&store, &args),
        Verb::Inspect(args) => inspect::run(&store, &args),
        Verb::Rm(args) => rm::run(engine, &store, &args),
        Verb::Validate(args) => validate::run(&store, &args),
    }
}
