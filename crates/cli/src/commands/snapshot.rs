//! `mimeo snapshot`: machines that are kept, and copies of them.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;

use mimeo_engine::Engine;

use crate::error::CliError;

/// What can be done with snapshots.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Keep a running machine as it is; it goes on
    Create(create::Args),
    /// List snapshots and who serves them
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show everything about snapshots
    Inspect(inspect::Args),
    /// Remove snapshots
    Rm(rm::Args),
    /// Remove snapshots that nobody needs
    Prune(prune::Args),
    /// Stay, and start copies of a snapshot for those who ask
    Serve(serve::Args),
    /// Start copies of a snapshot
    Run(run::Args),
}

/// Does what `verb` says.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Create(args) => create::run(engine, args).await,
        Verb::Ls(args) => ls::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, &args),
        Verb::Rm(args) => rm::run(engine, &args),
        Verb::Prune(args) => prune::run(engine, &args),
        Verb::Serve(args) => serve::run(engine, args).await,
        Verb::Run(args) => run::run(engine, args).await,
    }
}
