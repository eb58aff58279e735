//! The hidden command that supervises one machine in the background: for
//! `run -d`, `start` and each clone. It also retries, in the background, boot
//! snapshots and stencils that could not be made.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Once};

use mimeo_engine::act::retry;
use mimeo_engine::create::{self, StageObserver, Start, StartOptions};
use mimeo_engine::launch_request::{
    AttachingClient, CloneRequest, LaunchRequest, MachineInfo, PullReporter, RegistryLogin, SupervisorReport,
};
use mimeo_engine::{
    Attachment, Engine, Home, MachineId, MachineSpec, Record, SupervisorError, supervise, supervise_clone,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};
use tokio::sync::watch;

use crate::commands::run::remove_image;
use crate::error::{CliError, from_supervisor};
use crate::interruption::Interruption;
use crate::{logging, progress};

/// The file of the supervisor's log, in the machine's directory.
const LOG: &str = "monitor.log";

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
        LaunchRequest::Run { spec, quiet, client, id, report, registry_login } => {
            let options = start_options(engine, quiet, report, id, registry_login);
            run_machine(engine, *spec, options, report, client, input).await
        }
        LaunchRequest::Create { spec, id, registry_login } => {
            create_machine(engine, *spec, start_options(engine, true, true, id, registry_login), input).await
        }
        LaunchRequest::Start { machine, client, report } => {
            let options = start_options(engine, true, report, Some(machine.clone()), None);
            start_machine(engine, machine, options, report, client, input).await
        }
        LaunchRequest::Clone(order) => run_clone(engine, *order, input).await,
        // A retry that timed out may leave a thread blocked for ever: exit without joining it.
        LaunchRequest::Retry(subject) => std::process::exit(retry(engine, &subject).await.map_or(1, |()| 0)),
    }
}

/// How the start is observed: by bars on the terminal, or by reports on standard output. Then nothing is written to standard
/// error, which may be that of a long-lived process: the log goes to the machine's file as soon as there is one.
fn start_options(
    engine: &Engine,
    quiet: bool,
    is_reported: bool,
    id: Option<MachineId>,
    login: Option<RegistryLogin>,
) -> StartOptions {
    let credentials = login.map(Into::into);
    if !is_reported {
        return StartOptions { id, credentials, ..StartOptions::new(progress::reporter(quiet)) };
    }
    silence_log();
    // Known from now on, for the path of its log.
    let id = id.unwrap_or_else(MachineId::random);
    let log = engine.home().machine(&id).join(LOG);
    let once = Once::new();
    let stages: StageObserver = Arc::new(move |stage, milliseconds| {
        // The first stage has made the directory. Without a log, the start goes on all the same.
        once.call_once(|| drop(logging::redirect_to(log.clone())));
        report(&SupervisorReport::Stage { stage: stage.to_owned(), milliseconds });
    });
    let progress = Arc::new(PullReporter::new(|progress| report(&SupervisorReport::Pull(progress))));
    StartOptions { id: Some(id), credentials, progress, stages: Some(stages) }
}

async fn create_machine(
    engine: &Engine,
    spec: MachineSpec,
    options: StartOptions,
    input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let mut interruption = Interruption::listen();
    let created = tokio::select! {
        created = create::create(engine, spec, &options) => created.map_err(SupervisorError::from),
        signal = interruption.received() => Err(SupervisorError::Interrupted { signal }),
        () = end_of(input) => Err(SupervisorError::Cancelled),
    };
    match created {
        Ok(record) => {
            report(&SupervisorReport::Created { machine: MachineInfo::new(&record) });
            Ok(0)
        }
        Err(error) => Ok(report_failure(error)),
    }
}

async fn run_machine(
    engine: &Engine,
    spec: MachineSpec,
    options: StartOptions,
    is_reported: bool,
    client: Option<AttachingClient>,
    input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let (remove, mut image) = (spec.remove_image, None);
    let started = |record: &Record| {
        image = record.image.clone();
        if is_reported {
            report(&SupervisorReport::Launched { machine: MachineInfo::new(record) });
        } else {
            write_line(record.id.as_str());
        }
        detach_from_terminal(engine.home(), record, true);
    };
    let start = Start::New(Box::new(spec));
    let exit = supervise(engine, start, attachment(client), options, end_of(input), started).await;
    if let Some(image) = image.filter(|_| remove) {
        remove_image(engine, &image);
    }
    match exit {
        Err(error) if is_reported => Ok(report_failure(error)),
        exit => Ok(exit.map_err(from_supervisor)?.code),
    }
}

async fn start_machine(
    engine: &Engine,
    machine: MachineId,
    options: StartOptions,
    is_reported: bool,
    client: Option<AttachingClient>,
    input: BufReader<Stdin>,
) -> Result<i32, CliError> {
    let started = |record: &Record| {
        report(&match is_reported {
            true => SupervisorReport::Launched { machine: MachineInfo::new(record) },
            false => SupervisorReport::Started,
        });
        detach_from_terminal(engine.home(), record, true);
    };
    let start = Start::Existing(machine);
    match supervise(engine, start, attachment(client), options, end_of(input), started).await {
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
    let failure = error.failure();
    let code = failure.code;
    report(&SupervisorReport::Failed(failure));
    code
}

async fn run_clone(engine: &Engine, order: CloneRequest, input: BufReader<Stdin>) -> Result<i32, CliError> {
    // A server's clone keeps the pipe from the server on its standard input, to notice when the server ends.
    let started = |record: &Record| detach_from_terminal(engine.home(), record, record.serve.is_none());
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

/// Sends standard error nowhere.
fn silence_log() {
    let silenced =
        File::options().write(true).open("/dev/null").and_then(|null| Ok(rustix::stdio::dup2_stderr(&null)?));
    if let Err(error) = silenced {
        tracing::warn!(component = "supervisor", %error, "cannot redirect standard error");
    }
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
    if let Err(error) = logging::redirect_to(home.machine(&record.id).join(LOG)) {
        tracing::warn!(component = "supervisor", %error, "cannot open the supervisor's log, which is lost");
        results.push(rustix::stdio::dup2_stderr(&null));
    }
    for error in results.into_iter().filter_map(Result::err) {
        tracing::warn!(component = "supervisor", %error, "cannot redirect a standard stream");
    }
}
