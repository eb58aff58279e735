//! The hidden command that supervises one machine in the background: for
//! `run -d`, `start` and each clone. It also retries, in the background, boot
//! snapshots and stencils that could not be made.

use std::fs::File;
use std::io::Write;

use mimeo_engine::act::retry;
use mimeo_engine::create::Start;
use mimeo_engine::launch_request::{AttachingClient, CloneRequest, LaunchRequest, SupervisorReport};
use mimeo_engine::{
    Attachment, Engine, Home, MachineId, MachineSpec, Record, SupervisorError, supervise, supervise_clone,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};
use tokio::sync::watch;

use crate::commands::run::remove_image;
use crate::error::{CliError, from_supervisor};
use crate::{logging, progress};

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
        LaunchRequest::Run { spec, quiet, client } => run_machine(engine, *spec, quiet, client, input).await,
        LaunchRequest::Start { machine, client } => start_machine(engine, machine, client, input).await,
        LaunchRequest::Clone(order) => run_clone(engine, *order, input).await,
        // A retry that timed out may leave a thread blocked for ever: exit without joining it.
        LaunchRequest::Retry(subject) => std::process::exit(retry(engine, &subject).await.map_or(1, |()| 0)),
    }
}

async fn run_machine(
    engine: &Engine,
    spec: MachineSpec,
    quiet: bool,
    client: Option<AttachingClient>,
    input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let progress = progress::reporter(quiet);
    let (remove, mut image) = (spec.remove_image, None);
    let started = |record: &Record| {
        image = record.image.clone();
        write_line(record.id.as_str());
        detach_from_terminal(engine.home(), record, true);
    };
    let start = Start::New(Box::new(spec));
    let exit = supervise(engine, start, attachment(client), progress, end_of(input), started).await;
    if let Some(image) = image.filter(|_| remove) {
        remove_image(engine, &image);
    }
    Ok(exit.map_err(from_supervisor)?.code)
}

async fn start_machine(
    engine: &Engine,
    machine: MachineId,
    client: Option<AttachingClient>,
    input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let progress = progress::reporter(true);
    let started = |record: &Record| {
        report(&SupervisorReport::Started);
        detach_from_terminal(engine.home(), record, true);
    };
    let start = Start::Existing(machine);
    match supervise(engine, start, attachment(client), progress, end_of(input), started).await {
        Ok(exit) => Ok(exit.code),
        Err(error) if error.is_supervised() => {
            report(&SupervisorReport::Supervised);
            Ok(0)
        }
        Err(error) => Ok(report_failure(error)),
    }
}

/// The container's terminal and its first client.
fn attachment(client: Option<AttachingClient>) -> Attachment {
    let Some(AttachingClient { process, size }) = client else { return Attachment::default() };
    let size = size.map(|size| watch::channel(size).1);
    Attachment { client: Some(process), size, ..Attachment::default() }
}

/// Waits for the end of the input: the command that started this process has died or was interrupted.
async fn end_of(mut input: BufReader<Stdin>) {
    let mut ignored = Vec::new();
    // Only the end of the input matters, and an error is one, too.
    input.read_to_end(&mut ignored).await.ok();
}

/// Reports why a machine was not started; returns the exit code.
fn report_failure(error: SupervisorError) -> i32 {
    let code = error.exit_code();
    report(&SupervisorReport::Failed { message: from_supervisor(error).to_string(), code });
    code
}

async fn run_clone(engine: &Engine, order: CloneRequest, input: BufReader<Stdin>) -> Result<i32, CliError> {
    // A server's clone keeps the pipe from the server on its standard input, to notice when the server ends.
    let is_served = order.serve.is_some();
    let started = |record: &Record| detach_from_terminal(engine.home(), record, !is_served);
    match supervise_clone(engine, order, input, report, started).await {
        Ok(exit) => Ok(exit.code),
        Err(error) => Ok(report_failure(error)),
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

/// Redirects the standard streams: from now on the log is a file in the machine's directory. If that file
/// cannot be opened, the log is lost, but the streams are released all the same: `run -d` waits for the end of
/// standard output.
fn detach_from_terminal(home: &Home, record: &Record, also_stdin: bool) {
    let null = match File::options().read(true).write(true).open("/dev/null") {
        Ok(null) => null,
        Err(error) => return tracing::warn!(component = "supervisor", %error, "cannot open /dev/null"),
    };
    let mut results = vec![rustix::stdio::dup2_stdout(&null)];
    if also_stdin {
        results.push(rustix::stdio::dup2_stdin(&null));
    }
    if let Err(error) = logging::redirect_to(home.machine(&record.id).join("monitor.log")) {
        tracing::warn!(component = "supervisor", %error, "cannot open the supervisor's log, which is lost");
        results.push(rustix::stdio::dup2_stderr(&null));
    }
    for error in results.into_iter().filter_map(Result::err) {
        tracing::warn!(component = "supervisor", %error, "cannot redirect a standard stream");
    }
}
