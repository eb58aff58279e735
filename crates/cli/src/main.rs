//! `mimeo`: arguments -> settings -> command -> output -> exit code.

mod arguments;
mod commands;
mod error;
mod humanize;
mod live;
mod logging;
mod output;
mod progress;
mod resource_usage;
mod stdio;
mod template;
mod terminal;
mod values;
mod view;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
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

/// One thread: a machine dies with the thread that started it, and that is
/// this process's own.
fn run(arguments: Arguments) -> Result<i32, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::io("start the runtime", source))?;
    let outcome = runtime.block_on(commands::run(arguments));
    // Not dropped: a thread that waits for a terminal's next line would hold
    // this process until somebody types one.
    runtime.shutdown_background();
    outcome
}

/// Help and version are results; a wrong command line is podman's exit code 125.
fn print_refusal(refusal: &clap::Error) -> ExitCode {
    let code = if refusal.use_stderr() { 125 } else { 0 };
    match refusal.print() {
        Ok(()) => ExitCode::from(code),
        // A reader that went away has seen enough.
        Err(_) => ExitCode::from(code),
    }
}
