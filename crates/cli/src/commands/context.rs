//! `mimeo context`: the managers on whose hosts commands act.

mod add;
mod ls;
mod rm;
mod show;
mod use_;

use crate::error::CliError;

/// Commands for contexts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the contexts
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Add a context, or replace one
    Add(add::Args),
    /// Use a context for the commands that follow
    Use(use_::Args),
    /// Remove contexts
    Rm(rm::Args),
    /// Show a context
    Show(show::Args),
}

/// Runs the command.
pub(crate) fn run(verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Ls(args) => ls::run(&args),
        Verb::Add(args) => add::run(args),
        Verb::Use(args) => use_::run(args),
        Verb::Rm(args) => rm::run(args),
        Verb::Show(args) => show::run(&args),
    }
}
