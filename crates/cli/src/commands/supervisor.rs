//! The hidden command that owns one machine in the background: of `run -d`,
//! and of each copy. It also tries again what starts did without.

use std::fs::{File, OpenOptions};
use std::io::Write;

use mimeo_engine::act::retry;
use mimeo_engine::order::{CloneOrder, Order, Told};
use mimeo_engine::{Attachment, Engine, Home, MachineSpec, Record, monitor, monitor_clone};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};

use crate::error::{CliError, from_supervisor};
use crate::progress;

/// Makes the machine, lets go of the terminal and stays.
pub(crate) async fn run(engine: &Engine) -> Result<i32, CliError> {
    // Fails when we lead a group already, and then the terminal is not ours.
    rustix::process::setsid().ok();
    let mut input = BufReader::new(stdin());
    let mut line = String::new();
    input.read_line(&mut line).await.map_err(|source| CliError::io("read what to do", source))?;
    match serde_json::from_str(&line)? {
        Order::Run { spec, quiet } => run_machine(engine, *spec, quiet, input).await,
        Order::Clone(order) => run_clone(engine, *order, input).await,
        // One that hangs may have a thread that waits for ever: this process does not.
        Order::Retry(subject) => std::process::exit(retry(engine, &subject).await.map_or(1, |()| 0)),
    }
}

async fn run_machine(
    engine: &Engine,
    spec: MachineSpec,
    quiet: bool,
    mut input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let cancelled = async move {
        let mut rest = Vec::new();
        // Its end, however it comes, is all that matters.
        input.read_to_end(&mut rest).await.ok();
    };
    let progress = progress::reporter(quiet);
    let started = |record: &Record| {
        write_line(record.id.as_str());
        detach_from_terminal(engine.home(), record, true);
    };
    let exit = monitor(engine, spec, Attachment::default(), progress, cancelled, started).await;
    Ok(exit.map_err(from_supervisor)?.code)
}

async fn run_clone(engine: &Engine, order: CloneOrder, input: BufReader<Stdin>) -> Result<i32, CliError> {
    // A server's copies hold its pipe until one of the two ends.
    let is_served = order.serve.is_some();
    let started = |record: &Record| detach_from_terminal(engine.home(), record, !is_served);
    match monitor_clone(engine, order, input, report, started).await {
        Ok(exit) => Ok(exit.code),
        Err(error) => {
            let code = error.exit_code();
            report(&Told::Failed { message: from_supervisor(error).to_string() });
            Ok(code)
        }
    }
}

fn report(event: &Told) {
    if let Ok(line) = serde_json::to_string(event) {
        write_line(&line);
    }
}

/// Who started us may have gone; the machine runs all the same.
fn write_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).ok();
}

/// Leaves the terminal: from here on the log is a file.
fn detach_from_terminal(home: &Home, record: &Record, also_stdin: bool) {
    let log = home.machine(&record.id).join("monitor.log");
    let log = OpenOptions::new().create(true).append(true).open(log);
    if let (Ok(null), Ok(log)) = (File::options().read(true).write(true).open("/dev/null"), log) {
        if also_stdin {
            rustix::stdio::dup2_stdin(&null).ok();
        }
        rustix::stdio::dup2_stdout(&null).ok();
        rustix::stdio::dup2_stderr(&log).ok();
    }
}
