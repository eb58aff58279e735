//! `mimeo exec`: one more process in a running machine.

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{FailureKind, Process, Reply, Request};
use mimeo_engine::control::ControlError;
use mimeo_engine::{ControlClient, Engine};

use crate::commands::select::Machine;
use crate::error::CliError;
use crate::stdio;
use crate::terminal::{RawTerminal, size, watch_size};

/// Arguments of `mimeo exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the process's standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run as this user of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The machine whose monitor has this process id; CMD follows at once then
    #[arg(long)]
    pid: Option<u32>,
    /// The machine, then what to run in it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "MACHINE CMD")]
    words: Vec<String>,
}

/// Runs the process; its exit code.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let (machine, command) = split(&args)?;
    let found = engine.registry().find(&machine.selector()?)?;
    let client = ControlClient::connect(engine.home(), &found).await?;
    let process = Process {
        args: command,
        env: args.env.iter().filter_map(|pair| pair.split_once('=')).map(own).collect(),
        cwd: args.workdir.unwrap_or_default(),
        user: args.user.unwrap_or_default(),
        terminal: args.tty.then(size),
        stdin: args.interactive,
        init: false,
    };
    let stream = start(&client, process).await?;
    let size = if args.tty { Some(watch_size()?) } else { None };
    let raw = if args.tty && args.interactive { RawTerminal::enter()? } else { None };
    let status = stdio::join(stream, args.interactive, size).await;
    drop(raw);
    Ok(status?.shell_code())
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// With `--pid` every word is the command's.
fn split(args: &Args) -> Result<(Machine, Vec<String>), CliError> {
    let mut words = args.words.clone();
    let name = if args.pid.is_none() { Some(words.remove(0)) } else { None };
    if words.is_empty() {
        return Err(CliError::usage("there is no command to run"));
    }
    Ok((Machine { name, pid: args.pid }, words))
}

/// Starts the process, with podman's exit codes when it cannot be.
async fn start(client: &ControlClient, process: Process) -> Result<Stream, CliError> {
    match client.guest(Request::Exec(process)).await {
        Ok((Reply::Started { .. }, stream)) => Ok(stream),
        Ok((answer, _)) => Err(CliError::usage(format!("the agent answered out of turn: {answer:?}"))),
        Err(error) => {
            let code = match &error {
                ControlError::Guest { failure, .. } => match failure.kind {
                    FailureKind::CommandNotFound => 127,
                    FailureKind::CommandNotExecutable => 126,
                    _ => 125,
                },
                _ => 125,
            };
            Err(CliError::from(error).with_code(code))
        }
    }
}
