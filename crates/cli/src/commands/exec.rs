//! `mimeo exec`: runs a process in a running machine's container.

use std::path::PathBuf;

use mimeo_engine::act::ExecProcess;

use crate::backend::Host;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::stdio::{ClientEnd, ClientStreams};
use crate::terminal::{RawTerminal, size, watch_size};
use crate::values::{absolute, environment};
use crate::{output, stdio};

/// The exit code of a process whose machine ended under it: as for SIGKILL.
const SIGKILL_EXIT_CODE: i32 = 137;

/// Arguments of `mimeo exec`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "mimeo exec [OPTIONS] MACHINE COMMAND [ARGUMENT]...",
    after_help = "Examples:\n  mimeo exec -it web sh\n  mimeo exec -e A=1 --workdir /tmp web env\n  tar -c . | mimeo exec -i web tar -C /srv -x"
)]
pub(crate) struct Args {
    /// Run in the background and print the process id in the machine
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    /// Pass standard input to the process
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal for the process
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; without a value, it is copied from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User in the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Give the process every capability in its bounding set
    #[arg(long)]
    privileged: bool,
    /// Select the machine by the process id of its supervisor; then COMMAND is the first argument
    #[arg(long)]
    pid: Option<u32>,
    /// Select the machine that was created last; then COMMAND is the first argument
    #[arg(short, long, conflicts_with = "pid")]
    latest: bool,
    /// The machine: its name, its id or the start of its id; then the command to run and its arguments
    // One argument: an option after the machine belongs to the command.
    #[arg(required = true, trailing_var_arg = true, value_name = "MACHINE")]
    words: Vec<String>,
}

/// Runs the process; returns its exit code.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let (machine, command) = split_arguments(&args)?;
    let found = machine.find(host).await?;
    let (pid, stream) = host.exec(&found, process_to_run(&args, command)?).await?;
    if args.detach {
        output::line(pid.to_string())?;
        return Ok(0);
    }
    let size = if args.tty { Some(watch_size()?) } else { None };
    let raw = if args.tty && args.interactive { RawTerminal::enter()? } else { None };
    let streams = ClientStreams { interactive: args.interactive, size, ..ClientStreams::default() };
    let end = stdio::forward_until_exit(stream, streams).await;
    drop(raw);
    match end {
        Ok(ClientEnd::Exited(code) | ClientEnd::Interrupted(code)) => Ok(code),
        Ok(ClientEnd::Detached) => Ok(0),
        // A process whose machine ended was killed with it.
        Err(error) => Err(CliError::from(error).with_code(SIGKILL_EXIT_CODE)),
    }
}

/// The process to run.
fn process_to_run(args: &Args, command: Vec<String>) -> Result<ExecProcess, CliError> {
    Ok(ExecProcess {
        command,
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir.clone().map(|path| absolute("--workdir", path)).transpose()?,
        user: args.user.clone(),
        terminal: args.tty.then(size),
        stdin: args.interactive,
        privileged: args.privileged,
    })
}

/// Separates the machine from the command. With `--pid` or `--latest`, all arguments are the command.
fn split_arguments(args: &Args) -> Result<(Machine, Vec<String>), CliError> {
    let is_named = args.pid.is_none() && !args.latest;
    let (name, command) = args.words.split_at(usize::from(is_named).min(args.words.len()));
    let (name, command) = (name.first().cloned(), command.to_vec());
    if command.is_empty() {
        return Err(CliError::usage("no command given: see `mimeo exec --help`"));
    }
    Ok((Machine { name, pid: args.pid, latest: args.latest }, command))
}
