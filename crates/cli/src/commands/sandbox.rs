//! `mimeo sandbox`: machines with whole systems, made from bases. A sandbox is a machine: all commands for machines work on it.

pub(crate) mod create;
mod ready;

use crate::backend::Host;
use crate::commands::local;
use crate::error::CliError;
use crate::logging::LogLevel;

/// Commands for sandboxes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Start a new sandbox from a base
    Create(create::Args),
}

/// Runs the command.
pub(crate) async fn run(host: &Host, verb: Verb, level: LogLevel) -> Result<i32, CliError> {
    local(host, "make sandboxes")?;
    match verb {
        Verb::Create(args) => create::run(host, args, level).await,
    }
}
