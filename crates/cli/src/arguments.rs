//! The command line's grammar. Each command's own part is in its file.

use clap::{Parser, Subcommand};

use crate::commands::{
    completion, cp, events, exec, fork, image, inspect, kill, logs, man, pause, port, ps, rm, run, setup,
    snapshot, stats, stop, test, top, unpause, version, wait,
};
use crate::logging::LogLevel;

/// Run each OCI image in its own microVM.
#[derive(Debug, Parser)]
#[command(name = "mimeo", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  mimeo setup\n  mimeo run --rm -it alpine\n  mimeo run -d --name web -p 8080:80 nginx\n  mimeo ps"
)]
pub(crate) struct Arguments {
    /// How much is told on standard error
    #[arg(long, global = true, value_enum, default_value = "warn", env = "MIMEO_LOG")]
    pub(crate) log_level: LogLevel,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What mimeo can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Podman(Podman),
    /// The same commands under podman's name
    #[command(subcommand, name = "podman")]
    Named(Podman),
    /// Keep machines as they are, and start copies of them
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Copy a running machine, all copies or none
    Fork(fork::Args),
    /// Prepare this host: kernel and first filesystem
    Setup(setup::Args),
    /// Tell whether machines work on this host
    #[command(subcommand)]
    Test(test::Verb),
    /// Print what a shell needs to complete mimeo's words
    Completion(completion::Args),
    /// Write manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Own one machine, described on standard input
    #[command(hide = true)]
    Supervisor,
}

/// Commands that may also be written `mimeo podman …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Podman {
    /// Run an image in a microVM of its own
    Run(Box<run::Args>),
    /// Run a command in a running machine
    Exec(exec::Args),
    /// List machines
    #[command(visible_alias = "ls", alias = "list")]
    Ps(ps::Args),
    /// Show everything about a machine or an image
    Inspect(inspect::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// End machines in good order
    Stop(stop::Args),
    /// Send machines a signal
    Kill(kill::Args),
    /// Wait until machines have ended, and print their exit codes
    Wait(wait::Args),
    /// Remove machines
    Rm(rm::Args),
    /// Stop machines' processors
    Pause(pause::Args),
    /// Let machines' processors go on
    Unpause(unpause::Args),
    /// Show where ports are published
    Port(port::Args),
    /// Show a machine's processes, or all machines, as they change
    Top(top::Args),
    /// Show what machines use
    Stats(stats::Args),
    /// Copy files between the host and machines
    Cp(cp::Args),
    /// Show what happens to machines
    Events(events::Args),
    /// Manage images
    #[command(subcommand)]
    Image(image::Verb),
    /// Fetch images
    Pull(image::pull::Args),
    /// List images
    Images(image::ls::Args),
    /// Remove images
    Rmi(image::rm::Args),
    /// Make an image of a tar file
    Import(image::import::Args),
    /// Show which mimeo this is
    Version(version::Args),
}
