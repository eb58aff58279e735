//! The command line's grammar. Each command's own part is in its file.

use clap::{Parser, Subcommand};

use crate::commands::{exec, run, setup};
use crate::logging::LogLevel;

/// Run each OCI image in its own microVM.
#[derive(Debug, Parser)]
#[command(name = "mimeo", version, propagate_version = true, max_term_width = 100)]
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
    /// Run an image in a microVM of its own
    Run(run::Args),
    /// The same commands under podman's name
    #[command(subcommand)]
    Podman(Podman),
    /// Run a command in a running machine
    Exec(exec::Args),
    /// Prepare this host: kernel and first filesystem
    Setup(setup::Args),
    /// Own one machine, described on standard input
    #[command(hide = true)]
    Monitor,
}

/// Commands that may also be written `mimeo podman …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Podman {
    /// Run an image in a microVM of its own
    Run(run::Args),
    /// Run a command in a running machine
    Exec(exec::Args),
}
