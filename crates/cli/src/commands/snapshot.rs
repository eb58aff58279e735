//! `mimeo snapshot`: snapshots of machines, and clones started from them.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;

use crate::backend::{Host, local};
use crate::error::CliError;

/// Commands for snapshots.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Take a snapshot of a running machine; the machine keeps running
    Create(create::Args),
    /// List snapshots and snapshot servers
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show details of snapshots
    Inspect(inspect::Args),
    /// Remove snapshots
    Rm(rm::Args),
    /// Remove unused snapshots: those of forks, and outdated boot snapshots
    Prune(prune::Args),
    /// Run a server that starts clones of a snapshot, with a pool of ready ones if requested
    Serve(serve::Args),
    /// Start clones of a snapshot
    Run(run::Args),
}

/// Runs the command.
pub(crate) async fn run(host: &Host, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Create(args) => create::run(host, args).await,
        Verb::Ls(args) => ls::run(host, &args).await,
        Verb::Inspect(args) => inspect::run(host, &args).await,
        Verb::Rm(args) => rm::run(host, &args).await,
        Verb::Prune(args) => prune::run(local(host, "prune snapshots")?, &args),
        Verb::Serve(args) => serve::run(local(host, "serve a snapshot")?, args).await,
        Verb::Run(args) => run::run(host, args).await,
    }
}
