//! The event loop of the task that owns a machine.

use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::link::LinkError;
use mimeo_agent_protocol::message::ExitStatus;
use mimeo_vmm::{Instance, VmExit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::attach::AttachedClients;
use super::clients::{Clients, ControlHandle};
use super::disk_error::next_disk_error;
use super::foreground::Sinks;
use super::machine::{Event, Machine};
use super::output::Outputs;
use super::probe::{HealthReport, Probe};
use super::signals::Signals;
use super::{Attachment, SupervisorError, clock, finish, input};
use crate::control::ControlReply;
use crate::create::{Guest, Running};
use crate::machine::{Claim, Exit, HealthSpec, Phase, Record};
use crate::{Engine, working_set};

/// Requests that may be queued for the task.
const MAX_QUEUED_REQUESTS: usize = 64;
/// Time to forward the remaining output of a machine that has ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a running machine is connected to.
pub(super) struct Endpoints<'a> {
    /// The container's streams, when it runs in the foreground.
    pub(super) attachment: Attachment,
    /// The signals of this process.
    pub(super) signals: &'a mut Signals,
    /// Receives a message when the snapshot server that owns the machine is gone.
    pub(super) server_gone: mpsc::Receiver<()>,
}

/// A machine that has ended. This process still owns it.
pub(super) struct Ended {
    pub(super) claim: Claim,
    pub(super) exit: Exit,
    /// How long its container ran.
    pub(super) uptime: Duration,
    /// Whether its restart policy requests another start.
    pub(super) is_restart_due: bool,
    /// The foreground, for the next run, but for the streams of its output.
    pub(super) attachment: Attachment,
    /// Writes to those what the reader has not read yet, and returns them.
    pub(super) writer: Option<JoinHandle<Sinks>>,
}

/// Runs a machine until its container has ended.
pub(super) async fn run(
    engine: &Engine,
    running: Running,
    endpoints: Endpoints<'_>,
    started: impl FnOnce(&Record),
) -> Result<Ended, SupervisorError> {
    let io = |step| move |source| SupervisorError::Io { step, source };
    let Running { mut guest, container, health } = running;
    guest.claim.record.client.clone_from(&endpoints.attachment.client);
    let (phase, phases) = watch::channel(Phase::Running);
    let (request_sender, mut requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let (health_sender, mut health_reports) = mpsc::channel(1);
    let container_input = Arc::new(container.sender);
    let (ending, is_ending) = watch::channel(false);
    let (arrivals, attached) =
        AttachedClients::new(container_input.clone(), request_sender.clone(), is_ending.clone());
    let handle = ControlHandle {
        guest: guest.link.clone(),
        phase: phases.clone(),
        requests: request_sender,
        arrivals,
    };
    let mut clients = Clients::listen(guest.scratch.path(), handle).map_err(io("open the control socket"))?;
    let Endpoints { attachment, signals, mut server_gone } = endpoints;
    let Attachment { client, stdin, stdout, stderr, size, failure } = attachment;
    let (foreground, writer) =
        Sinks { stdout, stderr, failure: failure.clone() }.start(guest.link.clone(), is_ending);
    let (outputs, mut lost_output) = Outputs::new(&guest.claim, foreground, attached);
    let mut tasks = JoinSet::new();
    input::connect(&mut tasks, stdin, size.clone(), container_input);
    let probe = health.map(|spec| start_probe(&mut tasks, spec, &guest, phases, health_sender.clone()));
    tasks.spawn(clock::set_clock(guest.link.clone()));
    record_working_set(engine, &guest.claim.record, guest.instance.as_ref(), &mut tasks);
    let begin = Instant::now();
    let mut output = Box::pin(outputs.forward(container.receiver, client.is_some()));
    let mut machine = Machine::new(engine, guest, phase, ending);
    machine.probe = probe;
    machine.publish_start(started);
    let exit = loop {
        let retry_at = machine.retry_at();
        let event = tokio::select! {
            ended = &mut output => Event::ContainerEnded(ended),
            exit = machine.guest.instance.wait() => classify_vm_exit(exit, output.as_mut()).await,
            Some(request) = requests.recv() => Event::Request(request),
            Some(health) = health_reports.recv() => Event::Health(health),
            signal = signals.any() => Event::Signal(signal),
            () = deadline(machine.deadline) => Event::Deadline,
            Some(()) = server_gone.recv() => Event::ServerGone,
            error = next_disk_error(&mut machine.disk_errors) => Event::DiskError(error),
            () = deadline(retry_at) => Event::Retry,
            () = deadline(machine.time_limit) => Event::TimeLimit,
            Ok(()) = lost_output.changed() => Event::LogLost(*lost_output.borrow_and_update()),
            () = clients.accept() => continue,
        };
        if let Some(exit) = machine.handle(event).await {
            break exit;
        }
    };
    requests.close();
    while let Ok(request) = requests.try_recv() {
        machine.handle_late_request(request);
    }
    drop(output);
    tasks.shutdown().await;
    machine.set_lost_output(*lost_output.borrow_and_update());
    let attachment = Attachment { size, failure, ..Attachment::default() };
    let uptime = begin.elapsed();
    let (claim, is_restart_due) = finish::finish(engine, machine, &exit, clients).await;
    Ok(Ended { claim, exit, uptime, is_restart_due, attachment, writer: Some(writer) })
}

/// Starts the task that checks the machine's health. Returns the sender of requests for a check.
fn start_probe(
    tasks: &mut JoinSet<()>,
    spec: HealthSpec,
    guest: &Guest,
    phase: watch::Receiver<Phase>,
    reports: mpsc::Sender<HealthReport>,
) -> mpsc::Sender<oneshot::Sender<ControlReply>> {
    let (sender, requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let (process, link) = (guest.claim.record.process.clone(), guest.link.clone());
    tasks.spawn(Probe { spec, process, link, phase, reports, requests }.run());
    sender
}

/// The container's last output and its exit status may still be in transit when the VMM exits.
async fn classify_vm_exit(
    exit: VmExit,
    output: impl Future<Output = Result<ExitStatus, LinkError>>,
) -> Event {
    match timeout(OUTPUT_TIMEOUT, output).await {
        Ok(Ok(status)) => Event::ContainerEnded(Ok(status)),
        _ => Event::VmEnded(exit),
    }
}

/// Records the working set of a clone. A machine that booted cold has no origin.
fn record_working_set(engine: &Engine, record: &Record, instance: &dyn Instance, tasks: &mut JoinSet<()>) {
    if let (Some(origin), Ok(memory)) = (record.origin.clone(), instance.memory()) {
        tasks.spawn(working_set::record(engine.snapshots(), origin, memory));
    }
}

async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
