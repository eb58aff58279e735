//! `mimeo system`: the host, what mimeo uses of it, and what can be removed.

pub(crate) mod df;
pub(crate) mod info;
pub(crate) mod prune;
pub(crate) mod reset;

use crate::backend::{Host, local};
use crate::error::CliError;

/// Commands for the whole system.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show the disk space that images, machines, named volumes and snapshots use
    Df(df::Args),
    /// Show the host, the directories and the number of machines
    Info(info::Args),
    /// Remove machines that do not run, images without a name and, with --volumes, unused volumes
    Prune(prune::Args),
    /// Remove all machines, snapshots and images
    Reset(reset::Args),
}

/// Runs the command.
pub(crate) async fn run(host: &Host, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Df(args) => df::run(local(host, "show the disk usage")?, &args),
        Verb::Info(args) => info::run(host, &args).await,
        Verb::Prune(args) => prune::run(host, &args).await,
        Verb::Reset(args) => reset::run(local(host, "reset the system")?, &args).await,
    }
}
