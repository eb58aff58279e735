//! `mimeo test`: does it work on this host?

mod busybox;
mod sanity;

use mimeo_engine::Engine;

use crate::error::CliError;

/// What can be tested.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// One machine, from its image to its end
    Sanity(sanity::Args),
}

/// Does what `verb` says.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Sanity(args) => sanity::run(engine, &args).await,
    }
}
