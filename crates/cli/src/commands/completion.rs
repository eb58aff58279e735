//! `mimeo completion`: prints a shell's completion script.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::arguments::Arguments;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo completion bash > /etc/bash_completion.d/mimeo")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let mut script = Vec::new();
    generate(args.shell, &mut Arguments::command(), "mimeo", &mut script);
    output::bytes(&script)?;
    Ok(0)
}
