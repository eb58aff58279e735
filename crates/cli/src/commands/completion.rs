//! `mimeo completion`: what a shell needs to complete our words.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::arguments::Arguments;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo completion bash > /etc/bash_completion.d/mimeo")]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the shell's script.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let mut script = Vec::new();
    generate(args.shell, &mut Arguments::command(), "mimeo", &mut script);
    output::bytes(&script)?;
    Ok(0)
}
