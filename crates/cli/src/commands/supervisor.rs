//! The hidden command that supervises one machine in the background: for
//! `run -d` and for each clone. It also retries, in the background, boot
//! snapshots and stencils that could not be made.

use std::fs::{File, OpenOptions};
use std::io::Write;

use mimeo_engine::act::retry;
use mimeo_engine::launch_request::{CloneRequest, LaunchRequest, SupervisorReport};
use mimeo_engine::{Attachment, Engine, Home, MachineSpec, Record, supervise, supervise_clone};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};

use crate::error::{CliError, from_supervisor};
use crate::progress;

/// Starts the machine, detaches from the terminal and supervises the machine until it exits.
pub(crate) async fn run(engine: &Engine) -> Result<i32, CliError> {
    // Fails only if this process already leads a process group; then it is not in
    // the group that the terminal signals.
    rustix::process::setsid().ok();
    let mut input = BufReader::new(stdin());
    let mut line = String::new();
    input
        .read_line(&mut line)
        .await
        .map_err(|source| CliError::io("read the request on standard input", source))?;
    match serde_json::from_str(&line)? {
        LaunchRequest::Run { spec, quiet } => run_machine(engine, *spec, quiet, input).await,
        LaunchRequest::Clone(order) => run_clone(engine, *order, input).await,
        // A retry that timed out may leave a thread blocked for ever: exit without joining it.
        LaunchRequest::Retry(subject) => std::process::exit(retry(engine, &subject).await.map_or(1, |()| 0)),
    }
}

async fn run_machine(
    engine: &Engine,
    spec: MachineSpec,
    quiet: bool,
    mut input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let cancelled = async move {
        let mut ignored = Vec::new();
        // Only the end of the input matters, and an error is one, too: the
        // command that started this process has died or was interrupted.
        input.read_to_end(&mut ignored).await.ok();
    };
    let progress = progress::reporter(quiet);
    let started = |record: &Record| {
        write_line(record.id.as_str());
        detach_from_terminal(engine.home(), record, true);
    };
    let exit = supervise(engine, spec, Attachment::default(), progress, cancelled, started).await;
    Ok(exit.map_err(from_supervisor)?.code)
}

async fn run_clone(engine: &Engine, order: CloneRequest, input: BufReader<Stdin>) -> Result<i32, CliError> {
    // A server's clone keeps the pipe from the server on its standard input, to notice when the server ends.
    let is_served = order.serve.is_some();
    let started = |record: &Record| detach_from_terminal(engine.home(), record, !is_served);
    match supervise_clone(engine, order, input, report, started).await {
        Ok(exit) => Ok(exit.code),
        Err(error) => {
            let code = error.exit_code();
            report(&SupervisorReport::Failed { message: from_supervisor(error).to_string() });
            Ok(code)
        }
    }
}

fn report(event: &SupervisorReport) {
    if let Ok(line) = serde_json::to_string(event) {
        write_line(&line);
    }
}

/// The command that started this process may have died: the machine runs on, so errors are ignored.
fn write_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).ok();
}

/// Redirects the standard streams: from now on the log is a file in the machine's directory.
fn detach_from_terminal(home: &Home, record: &Record, also_stdin: bool) {
    let log = home.machine(&record.id).join("monitor.log");
    let opened = OpenOptions::new().create(true).append(true).open(log);
    let null = File::options().read(true).write(true).open("/dev/null");
    let (Ok(log), Ok(null)) = (opened, null) else {
        return tracing::warn!(component = "supervisor", "cannot open the files of the standard streams");
    };
    // Standard output first: `run -d` waits for its end.
    let mut results = vec![rustix::stdio::dup2_stdout(&null), rustix::stdio::dup2_stderr(&log)];
    if also_stdin {
        results.push(rustix::stdio::dup2_stdin(&null));
    }
    for error in results.into_iter().filter_map(Result::err) {
        tracing::warn!(component = "supervisor", %error, "cannot redirect a standard stream");
    }
}
