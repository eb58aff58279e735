//! `mimeo container`: podman's long form of the commands on machines.

use mimeo_engine::Selector;

use super::{attach, commit, create, diff, export, prune, rename, restart, start, update};
use super::{cp, exec, inspect, kill, logs, pause, port, ps, rm, run, stats, stop, top, unpause, wait};
use crate::arguments::Podman;
use crate::backend::Host;
use crate::deferred::Deferred;
use crate::error::CliError;

/// Commands on machines.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Run an image in a new machine
    Run(Deferred<run::Args>),
    /// Create a machine without starting it
    Create(Deferred<create::Args>),
    /// Start machines that do not run
    Start(start::Args),
    /// Stop machines and start them again
    Restart(restart::Args),
    /// Attach to a running machine's container
    Attach(attach::Args),
    /// Rename a machine
    Rename(rename::Args),
    /// Change a machine's settings
    Update(update::Args),
    /// Show what a machine has changed of its image
    Diff(diff::Args),
    /// Write a machine's filesystem as a tar archive
    Export(export::Args),
    /// Make an image of what a machine has changed
    Commit(commit::Args),
    /// Remove machines that do not run
    Prune(prune::Args),
    /// Run a command in a running machine
    Exec(exec::Args),
    /// Test whether a machine exists: the exit code is 0 or 1
    Exists(ExistsArgs),
    /// List machines
    #[command(visible_aliases = ["ps", "list"])]
    Ls(ps::Args),
    /// Show details of machines
    Inspect(inspect::Args),
    /// Show the output of a machine's container
    Logs(logs::Args),
    /// Stop machines
    Stop(stop::Args),
    /// Send a signal to machines' containers
    Kill(kill::Args),
    /// Wait until machines exit
    Wait(wait::Args),
    /// Remove machines
    Rm(rm::Args),
    /// Pause machines
    Pause(pause::Args),
    /// Resume paused machines
    Unpause(unpause::Args),
    /// List a machine's published ports
    Port(port::Args),
    /// Show a machine's processes
    Top(top::Args),
    /// Show machines' resource usage
    Stats(stats::Args),
    /// Copy files between the host and machines
    Cp(cp::Args),
}

/// Arguments of `mimeo container exists`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExistsArgs {
    /// Accepted for compatibility with podman: there are no machines but mimeo's
    #[arg(long, hide = true)]
    external: bool,
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE")]
    name: String,
}

impl Verb {
    /// The short form of the command, or the exit code if it has none.
    pub(crate) async fn into_short_form(self, host: &Host) -> Result<Podman, Result<i32, CliError>> {
        Ok(match self {
            Self::Exists(args) => return Err(exists(host, &args).await),
            Self::Run(args) => Podman::Run(args),
            Self::Create(args) => Podman::Create(args),
            Self::Start(args) => Podman::Start(args),
            Self::Restart(args) => Podman::Restart(args),
            Self::Attach(args) => Podman::Attach(args),
            Self::Rename(args) => Podman::Rename(args),
            Self::Update(args) => Podman::Update(args),
            Self::Diff(args) => Podman::Diff(args),
            Self::Export(args) => Podman::Export(args),
            Self::Commit(args) => Podman::Commit(args),
            Self::Prune(args) => Podman::Prune(args),
            Self::Exec(args) => Podman::Exec(args),
            Self::Ls(args) => Podman::Ps(args),
            Self::Inspect(args) => Podman::Inspect(args.for_machines()),
            Self::Logs(args) => Podman::Logs(args),
            Self::Stop(args) => Podman::Stop(args),
            Self::Kill(args) => Podman::Kill(args),
            Self::Wait(args) => Podman::Wait(args),
            Self::Rm(args) => Podman::Rm(args),
            Self::Pause(args) => Podman::Pause(args),
            Self::Unpause(args) => Podman::Unpause(args),
            Self::Port(args) => Podman::Port(args),
            Self::Top(args) => Podman::Top(args),
            Self::Stats(args) => Podman::Stats(args),
            Self::Cp(args) => Podman::Cp(args),
        })
    }
}

async fn exists(host: &Host, args: &ExistsArgs) -> Result<i32, CliError> {
    match host.find(&Selector::NameOrId(args.name.clone())).await {
        Ok(_) => Ok(0),
        Err(error) if error.is_none() => Ok(1),
        Err(error) => Err(error.into()),
    }
}
