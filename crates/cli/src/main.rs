//! `mimeo`: arguments -> settings -> command -> output -> exit code.

mod arguments;
mod backend;
mod commands;
mod deferred;
mod detach_keys;
mod error;
mod humanize;
mod interruption;
mod live;
mod logging;
mod mounts;
mod output;
#[cfg(test)]
mod podman_table;
mod progress;
mod refused_commands;
mod resource_usage;
mod stdio;
mod template;
mod terminal;
mod values;
mod view;
mod whole_file;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use error::CliError;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return print_refusal(&refusal),
    };
    logging::init(arguments.log_level);
    let code = match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    };
    output::exit(code)
}

/// Runs the command on one thread: the VMM is killed when the thread that
/// started it ends, so that must be the main thread.
fn run(arguments: Arguments) -> Result<i32, CliError> {
    let mut builder = match arguments.command {
        // It starts no VMM itself, and answers many clients at a time.
        Command::Manager(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().map_err(|source| CliError::io("start the runtime", source))?;
    let outcome = runtime.block_on(commands::run(arguments));
    // Dropping the runtime would block on a thread that reads the terminal,
    // until the next line is typed.
    runtime.shutdown_background();
    outcome
}

/// Prints help, the version or a usage error. Help and version exit with 0, a
/// usage error with podman's 125.
fn print_refusal(refusal: &clap::Error) -> ExitCode {
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(reason) = refused_commands::reason(refusal, &arguments) {
        output::error(&CliError::usage(reason));
        return ExitCode::from(125);
    }
    let code = if refusal.use_stderr() { 125 } else { 0 };
    match refusal.print() {
        Ok(()) => ExitCode::from(code),
        // The reader closed the pipe: not an error.
        Err(_) => ExitCode::from(code),
    }
}
