//! A machine's state, owned by one task, and how it handles events.

use std::cell::Cell;
use std::time::Duration;

use mimeo_agent_protocol::link::{LinkError, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Reply, Request};
use mimeo_vmm::{DiskError, OperationError, VmExit};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clients::PendingRequest;
use super::clock::{ClockReading, PausedTime};
use super::disk_error::DiskWait;
use super::probe::HealthReport;
use super::signals::{SIGINT, SIGTERM};
use crate::cause::chain;
use crate::control::{ControlReply, ControlRequest, StopPurpose};
use crate::create::Guest;
use crate::ignored::LogFailure;
use crate::machine::{
    Action, Changes, Decision, Exit, Health, HealthAction, HealthStatus, Phase, Record, Refusal, Registry,
    State, decide, is_restart_due,
};
use crate::snapshot::Snapshots;
use crate::volumes::Volumes;
use crate::{Engine, Events, signal};

const SIGKILL: i32 = 9;
/// The exit code of a container that SIGKILL has ended, as a shell shows it.
const KILLED: i32 = 128 + SIGKILL;
/// podman's exit code of a container that was killed by its `--timeout`.
const TIMED_OUT: i32 = -1;
/// A user who sends the container one of these wants it to end: its restart policy does not apply then.
const ENDING_SIGNALS: [i32; 4] = [SIGINT, 3, SIGKILL, SIGTERM];
/// Grace period between SIGKILLing the container and killing the VMM.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// Time for the VMM to exit after the link to its guest was lost.
const VMM_EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for the guest to acknowledge a signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest time between attempts to write a state that the host's disk has refused.
const FIRST_STORE_RETRY: Duration = Duration::from_secs(1);
const MAX_STORE_RETRY: Duration = Duration::from_secs(30);

/// A running machine, owned by the task that alone changes its state.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) guest: Guest,
    pub(super) events: Events,
    pub(super) phase: watch::Sender<Phase>,
    /// When the container is killed, if it has not ended.
    pub(super) deadline: Option<Instant>,
    /// SIGKILL was sent to the container: a later exit is the result of that.
    pub(super) killed: bool,
    /// A signal to this process, or its snapshot server's end, has ended the machine: it is not started again.
    pub(super) is_final: bool,
    /// The machine is started again at once: it is kept, also with `--rm`.
    is_kept: bool,
    /// It became unhealthy, and is started again by this supervisor for that, whatever its restart policy is.
    is_restart_requested: bool,
    /// The task that checks its health, if it has a health check.
    pub(super) probe: Option<mpsc::Sender<oneshot::Sender<ControlReply>>>,
    /// When its container is killed because it has run for as long as it may.
    pub(super) time_limit: Option<Instant>,
    /// That time has come.
    is_timed_out: bool,
    /// Clients that wait for the machine's exit.
    pub(super) exit_waiters: Vec<oneshot::Sender<ControlReply>>,
    pub(super) registry: Registry,
    /// The store for its snapshots.
    pub(super) snapshots: Snapshots,
    /// The named volumes.
    pub(super) volumes: Volumes,
    /// Snapshots that are captured but not yet committed.
    pub(super) saving: JoinSet<()>,
    pub(super) paused_time: PausedTime,
    pub(super) saves: Saves,
    /// Disk errors for which the VMM has paused the machine.
    pub(super) disk_errors: Option<mpsc::Receiver<DiskError>>,
    /// The wait for a disk that can be written.
    pub(super) disk_wait: Option<DiskWait>,
    /// When the record is written again, if it could not be written, and the time to the attempt after that.
    store_retry: Cell<Option<(Instant, Duration)>>,
    /// Signals whose acknowledgement is awaited.
    signals: JoinSet<()>,
    /// Tells the foreground that the machine is ending.
    ending: watch::Sender<bool>,
}

/// What the next snapshot depends on, besides the machine itself.
#[derive(Debug, Default)]
pub(super) struct Saves {
    /// The VMM did not confirm which layer of the disk it writes to.
    pub(super) disk_unknown: bool,
    /// What the VMM's last save of the memory contained, if there was one.
    pub(super) last: Option<LastSave>,
    /// Completes when the last save's memory is in place for the next save.
    pub(super) last_memory_ready: Option<oneshot::Receiver<()>>,
}

/// The contents of a memory save by a VMM that tracks its guest's writes: the difference to the origin, or
/// all memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastSave {
    Diff,
    Full,
}

/// An event in a machine's life.
pub(super) enum Event {
    ContainerEnded(Result<ExitStatus, LinkError>),
    VmEnded(VmExit),
    Request(PendingRequest),
    Signal(i32),
    Deadline,
    /// The container has run for as long as it may.
    TimeLimit,
    Health(HealthReport),
    DiskError(DiskError),
    /// It is time to try again what the host's disk has refused.
    Retry,
    /// The number of bytes of output that could not be logged.
    LogLost(u64),
    /// The snapshot server that owns the machine is gone.
    ServerGone,
}

impl Machine {
    /// A machine that has just started. `phase` publishes its phase to clients and probes.
    pub(super) fn new(
        engine: &Engine,
        mut guest: Guest,
        phase: watch::Sender<Phase>,
        ending: watch::Sender<bool>,
    ) -> Self {
        let disk_errors = guest.instance.take_disk_errors();
        let seconds = guest.claim.record.spec.timeout;
        Self {
            guest,
            events: engine.events(),
            phase,
            deadline: None,
            killed: false,
            is_final: false,
            is_kept: false,
            is_restart_requested: false,
            probe: None,
            time_limit: (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds.into())),
            is_timed_out: false,
            registry: engine.registry(),
            exit_waiters: Vec::new(),
            snapshots: engine.snapshots(),
            volumes: engine.volumes(),
            saving: JoinSet::new(),
            paused_time: PausedTime::default(),
            saves: Saves::default(),
            disk_errors,
            disk_wait: None,
            store_retry: Cell::new(None),
            signals: JoinSet::new(),
            ending,
        }
    }

    /// When to try again what the host's disk has refused.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let store = self.store_retry.get().map(|(at, _)| at);
        let disk = self.disk_wait.as_ref().map(|wait| wait.at);
        store.into_iter().chain(disk).min()
    }

    async fn retry(&mut self) {
        let now = Instant::now();
        if self.store_retry.get().is_some_and(|(at, _)| at <= now) {
            self.store_state();
        }
        if self.disk_wait.as_ref().is_some_and(|wait| wait.at <= now) {
            self.retry_disk().await;
        }
    }

    /// Publishes the machine: from now on it persists until it is removed.
    pub(super) fn publish_start(&mut self, started: impl FnOnce(&Record)) {
        let is_new = !self.guest.claim.is_existing();
        self.guest.claim.persist();
        self.store_state();
        if is_new {
            self.events.record(&self.guest.claim.record, "create", &[]);
        }
        self.events.record(&self.guest.claim.record, "start", &[]);
        started(&self.guest.claim.record);
    }

    /// Handles an event; returns the exit if the machine has ended.
    pub(super) async fn handle(&mut self, event: Event) -> Option<Exit> {
        match event {
            Event::ContainerEnded(Ok(status)) => return Some(self.with_time_limit(exit(status))),
            Event::ContainerEnded(Err(error)) => {
                let exit = self.handle_lost_link(&error).await;
                return Some(self.with_time_limit(exit));
            }
            Event::VmEnded(vm_exit) => return Some(self.with_time_limit(self.exit_of_vm(&vm_exit))),
            Event::Request((request, reply)) => self.handle_request(request, reply).await,
            Event::Signal(signal) => self.handle_signal(signal).await,
            Event::Deadline => self.kill().await,
            Event::TimeLimit => self.handle_time_limit().await,
            Event::ServerGone => {
                self.make_final();
                self.kill().await;
            }
            Event::Health(report) => self.handle_health(report).await,
            Event::DiskError(error) => self.handle_disk_error(error),
            Event::Retry => self.retry().await,
            Event::LogLost(bytes) => {
                self.set_lost_output(bytes);
                self.store_state();
            }
        }
        None
    }

    /// The link to the guest failed, usually because the VMM has exited.
    async fn handle_lost_link(&mut self, error: &LinkError) -> Exit {
        match tokio::time::timeout(VMM_EXIT_TIMEOUT, self.guest.instance.wait()).await {
            Ok(vm_exit) => self.exit_of_vm(&vm_exit),
            Err(_) => failed(format!("the link to the guest was lost: {error}")),
        }
    }

    /// The machine's exit when its VMM has ended. If we killed the container, that is SIGKILL.
    fn exit_of_vm(&self, vm_exit: &VmExit) -> Exit {
        match vm_exit {
            _ if self.killed => exit(ExitStatus::Signal(SIGKILL)),
            VmExit::Off if self.record().system.is_some() => exit(ExitStatus::Code(0)),
            VmExit::Off => failed("the virtual machine powered off by itself".to_owned()),
            VmExit::Failed { status, stderr } => {
                failed(format!("the virtual machine failed ({status}) {stderr}"))
            }
        }
    }

    /// A container that its time limit has killed has podman's exit code for that.
    fn with_time_limit(&self, exit: Exit) -> Exit {
        let code = if self.is_timed_out && exit.code == KILLED { TIMED_OUT } else { exit.code };
        Exit { code, ..exit }
    }

    async fn handle_request(&mut self, request: ControlRequest, reply: oneshot::Sender<ControlReply>) {
        let needs_guest = matches!(
            request,
            ControlRequest::Signal { .. } | ControlRequest::Snapshot { .. } | ControlRequest::RetryDisk
        );
        if needs_guest && self.record().phase() == Phase::DiskError {
            self.try_disk().await;
        }
        let answer = match request {
            ControlRequest::Wait => return self.exit_waiters.push(reply),
            ControlRequest::Stop { timeout, purpose } => {
                self.exit_waiters.push(reply);
                self.note_stop(purpose);
                return self.stop(timeout).await;
            }
            ControlRequest::Snapshot { tag, kind, id } => return self.save(tag, kind, id, reply).await,
            ControlRequest::Signal { signal: SIGKILL } if self.record().system.is_some() => {
                self.kill_system().await
            }
            ControlRequest::Signal { signal } => return self.signal_container(signal, reply),
            ControlRequest::CheckHealth => return self.check_health(reply),
            ControlRequest::Pause => self.pause().await,
            ControlRequest::Unpause => self.unpause().await,
            ControlRequest::Edit { changes } => self.edit(&changes),
            ControlRequest::Publish { port } => self.publish(port).await,
            ControlRequest::Unpublish { port } => self.unpublish(port).await,
            ControlRequest::RetryDisk => match self.record().phase() {
                Phase::DiskError => ControlReply::Refused { refusal: Refusal::DiskError },
                _ => ControlReply::Done,
            },
            ControlRequest::Guest { .. } | ControlRequest::Attach { .. } => {
                ControlReply::Failed { message: "this request is not for the supervisor".to_owned() }
            }
        };
        // The client may have disconnected.
        reply.send(answer).ok();
    }

    /// Answers a request that has arrived after the container's end.
    pub(super) fn handle_late_request(&mut self, (request, reply): PendingRequest) {
        match request {
            ControlRequest::Wait => self.exit_waiters.push(reply),
            ControlRequest::Stop { purpose, .. } => {
                self.note_stop(purpose);
                self.exit_waiters.push(reply);
            }
            // The client may have disconnected.
            _ => drop(reply.send(ControlReply::Refused { refusal: Refusal::NotRunning })),
        }
    }

    /// Whatever was planned, the machine is not started again.
    fn make_final(&mut self) {
        self.is_final = true;
        self.cancel_restart();
        self.is_kept = false;
    }

    /// A restart for its health is not made any more.
    fn cancel_restart(&mut self) {
        if std::mem::take(&mut self.is_restart_requested) {
            self.is_kept = false;
        }
    }

    fn note_stop(&mut self, purpose: StopPurpose) {
        self.make_final();
        self.guest.claim.record.stopped_by_user = purpose == StopPurpose::User;
        self.is_kept = purpose == StopPurpose::Restart;
    }

    /// Whether the machine is removed when it has ended.
    pub(super) fn is_temporary(&self) -> bool {
        self.record().spec.remove && !self.is_kept
    }

    async fn stop(&mut self, timeout: Option<u32>) {
        let decision = decide(self.record().phase(), Action::Stop);
        if decision == Ok(Decision::ResumeFirst) {
            self.resume_to_end().await;
        }
        let seconds = timeout.unwrap_or(self.record().spec.stop_timeout);
        let at = Instant::now() + Duration::from_secs(seconds.into());
        // A repeated stop may shorten the timeout but not extend it.
        self.deadline = Some(self.deadline.map_or(at, |before| before.min(at)));
        if decision == Ok(Decision::Nothing) {
            return;
        }
        self.enter(State::Stopping);
        self.events.record(&self.guest.claim.record, "stop", &[]);
        if seconds > 0 {
            self.forward_signal(self.guest.stop_signal);
        }
    }

    /// A paused container handles no signal, and its guest flushes no disk.
    async fn resume_to_end(&mut self) {
        let resumed = self.guest.instance.resume().await;
        resumed.log_failure("supervisor", "resume the VMM to stop the machine");
    }

    /// The container has run for as long as it may.
    async fn handle_time_limit(&mut self) {
        self.time_limit = None;
        // It is being killed for another reason: a second kill would end the VMM at once.
        if self.killed {
            return;
        }
        self.is_timed_out = true;
        if self.record().phase() == Phase::Paused {
            self.resume_to_end().await;
            self.enter(State::Stopping);
        }
        self.kill().await;
    }

    /// Kills the container; if the guest does not answer, kills the VMM.
    async fn kill(&mut self) {
        let already_killed = std::mem::replace(&mut self.killed, true);
        self.deadline = Some(Instant::now() + KILL_GRACE);
        // A container that still runs after a SIGKILL hangs: kill the VMM. A guest whose disk cannot be written
        // does not run.
        // The init of a whole system gets no SIGKILL.
        let is_hopeless = self.record().system.is_some()
            || already_killed
            || self.disk_wait.is_some()
            || self.guest.link.ended().is_some();
        if is_hopeless {
            return self.guest.instance.kill().await;
        }
        self.forward_signal(SIGKILL);
    }

    fn signal_container(&mut self, signal: i32, reply: oneshot::Sender<ControlReply>) {
        if let Err(refusal) = decide(self.record().phase(), Action::Signal) {
            // The client may have disconnected.
            reply.send(ControlReply::Refused { refusal }).ok();
            return;
        }
        self.note_signal(signal);
        self.send_signal(signal, move |sent| {
            let answer = match sent {
                Ok(()) => ControlReply::Done,
                Err(error) => ControlReply::Failed { message: error.to_string() },
            };
            reply.send(answer).ok();
        });
    }

    /// Kills the VMM of a whole system: the kernel does not kill its init, which is PID 1.
    async fn kill_system(&mut self) -> ControlReply {
        if let Err(refusal) = decide(self.record().phase(), Action::Signal) {
            return ControlReply::Refused { refusal };
        }
        self.note_signal(SIGKILL);
        self.kill().await;
        ControlReply::Done
    }

    /// Records that a client requests a signal.
    fn note_signal(&mut self, signal: i32) {
        if ENDING_SIGNALS.contains(&signal) || signal == self.guest.stop_signal {
            self.guest.claim.record.stopped_by_user = true;
            self.cancel_restart();
            self.store_state();
        }
        self.events.record(&self.guest.claim.record, "kill", &[("signal", signal::name(signal))]);
    }

    /// Sends the container a signal that no client waits for.
    fn forward_signal(&mut self, signal: i32) {
        self.send_signal(signal, |sent| sent.log_failure("supervisor", "send the container a signal"));
    }

    /// Sends the container a signal. A task of its own waits for the acknowledgement, so that a guest that does
    /// not answer delays nothing else.
    fn send_signal(&mut self, signal: i32, on_sent: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        // The stop signal may be any; other signals rarely end a container.
        if signal == SIGKILL || self.record().phase() == Phase::Stopping {
            self.ending.send_replace(true);
        }
        while self.signals.try_join_next().is_some() {}
        let opened = self.guest.link.open(&Request::Signal { signal });
        self.signals.spawn(async move { on_sent(acknowledged(opened).await) });
    }

    async fn pause(&mut self) -> ControlReply {
        match decide(self.record().phase(), Action::Pause) {
            Err(refusal) => ControlReply::Refused { refusal },
            Ok(Decision::Nothing) => ControlReply::Done,
            Ok(_) => {
                self.paused_time.clock_before = ClockReading::read(&self.guest.link).await;
                let paused = self.guest.instance.pause().await;
                self.paused_time.since = Some(Instant::now());
                if paused.is_ok() {
                    // From now on only the user resumes it.
                    self.disk_wait = None;
                    self.guest.claim.record.disk_error = None;
                }
                self.report_transition(paused, State::Paused, "pause")
            }
        }
    }

    async fn unpause(&mut self) -> ControlReply {
        match decide(self.record().phase(), Action::Unpause) {
            Err(refusal) => ControlReply::Refused { refusal },
            Ok(Decision::Nothing) => ControlReply::Done,
            Ok(_) if self.disk_wait.is_some() => self.unpause_after_disk_error().await,
            Ok(_) => {
                self.forget_disk_errors();
                let resumed = self.guest.instance.resume().await;
                // The guest's clock may have stopped during the pause.
                let paused_for =
                    self.paused_time.since.take().map(|since| since.elapsed()).unwrap_or_default();
                let advance_nanos = paused_for.as_nanos() as u64;
                let since = self.paused_time.clock_before.take().map(ClockReading::mark);
                let thaw = Request::Thaw { unix_nanos: None, advance_nanos, since };
                self.guest
                    .link
                    .open(&thaw)
                    .log_failure("supervisor", "set the guest's clock after the pause");
                self.report_transition(resumed, State::Running, "unpause")
            }
        }
    }

    fn report_transition(
        &mut self,
        outcome: Result<(), OperationError>,
        state: State,
        action: &str,
    ) -> ControlReply {
        if let Err(error) = outcome {
            return ControlReply::Failed { message: error.to_string() };
        }
        self.enter(state);
        self.events.record(&self.guest.claim.record, action, &[]);
        ControlReply::Done
    }

    /// Forwards a signal of the supervisor to the container. SIGINT and SIGTERM end the machine even if the
    /// container ignores them: a second one kills it, and so does the stop timeout.
    async fn handle_signal(&mut self, signal: i32) {
        let ends = matches!(signal, SIGINT | SIGTERM);
        if ends {
            self.make_final();
        }
        // SIGTERM may come from a host that shuts down, Ctrl-C comes from a user.
        self.guest.claim.record.stopped_by_user |= signal == SIGINT;
        if !ends {
            return self.forward_signal(signal);
        }
        if matches!(self.record().phase(), Phase::Paused | Phase::DiskError) {
            self.resume_to_end().await;
        }
        if self.deadline.is_some() {
            return self.kill().await;
        }
        self.deadline = Some(Instant::now() + Duration::from_secs(self.record().spec.stop_timeout.into()));
        self.enter(State::Stopping);
        self.forward_signal(signal);
    }

    /// Notes how many bytes of output could not be logged, for the next record.
    pub(super) fn set_lost_output(&mut self, bytes: u64) {
        self.guest.claim.record.log_lost_bytes = bytes;
    }

    /// Stores the health, answers the client that has requested the check, and acts on a failure.
    async fn handle_health(&mut self, report: HealthReport) {
        let HealthReport { health, is_failure, answer } = report;
        let is_unhealthy = health.status == HealthStatus::Unhealthy;
        self.update_health(health);
        if let Some((client, reply)) = answer {
            // The client may have disconnected.
            client.send(reply).ok();
        }
        // Each failure counts, as with podman: the machine may not have run when it became unhealthy.
        if is_failure && is_unhealthy && self.record().phase() == Phase::Running {
            self.handle_unhealthy().await;
        }
    }

    fn update_health(&mut self, health: Health) {
        let before = self.guest.claim.record.health.replace(health.clone());
        if before.as_ref() == Some(&health) {
            return;
        }
        self.store_state();
        if before.map(|before| before.status) == Some(health.status) {
            return;
        }
        let status = health.status.to_string();
        self.events.record(&self.guest.claim.record, "health_status", &[("health_status", status)]);
    }

    /// Has the probe check the machine's health and answer the client.
    fn check_health(&self, reply: oneshot::Sender<ControlReply>) {
        let refused = match (decide(self.record().phase(), Action::Enter), &self.probe) {
            (Err(refusal), _) => (reply, ControlReply::Refused { refusal }),
            (Ok(_), None) => {
                (reply, ControlReply::Failed { message: "it has no defined healthcheck".to_owned() })
            }
            (Ok(_), Some(probe)) => match probe.try_send(reply) {
                Ok(()) => return,
                Err(TrySendError::Full(reply) | TrySendError::Closed(reply)) => {
                    (reply, ControlReply::Failed { message: "too many health checks wait".to_owned() })
                }
            },
        };
        let (reply, answer) = refused;
        // The client may have disconnected.
        reply.send(answer).ok();
    }

    async fn handle_unhealthy(&mut self) {
        match self.record().spec.health_on_failure {
            HealthAction::None => {}
            // A second kill would end the VMM.
            HealthAction::Kill if self.killed => {}
            HealthAction::Kill => {
                self.note_stop(StopPurpose::User);
                self.kill().await;
            }
            HealthAction::Stop => {
                self.note_stop(StopPurpose::User);
                self.stop(None).await;
            }
            HealthAction::Restart => {
                // A snapshot server starts another clone instead.
                let is_own = self.record().serve.is_none();
                (self.is_restart_requested, self.is_kept) = (is_own, is_own);
                self.stop(None).await;
            }
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        self.guest.claim.record.state = state;
        self.phase.send_replace(self.guest.claim.record.phase());
        self.store_state();
    }

    /// Writes the state. A full disk must not end a running machine: the write is repeated later.
    pub(super) fn store_state(&self) {
        let failed_before = self.store_retry.take();
        let Err(error) = self.guest.claim.store_or_spare() else { return };
        let wait = failed_before.map_or(FIRST_STORE_RETRY, |(_, wait)| wait);
        self.store_retry.set(Some((Instant::now() + wait, (wait * 2).min(MAX_STORE_RETRY))));
        if failed_before.is_none() {
            let error = chain(&error);
            tracing::warn!(component = "supervisor", machine = %self.record().name, error, "cannot write the machine's state");
        }
    }

    pub(super) fn record(&self) -> &Record {
        &self.guest.claim.record
    }

    fn edit(&mut self, changes: &Changes) -> ControlReply {
        if let Err(refusal) = decide(self.record().phase(), changes.action()) {
            return ControlReply::Refused { refusal };
        }
        let claim = &mut self.guest.claim;
        match self.registry.store_changes(&claim.dir, claim.record.clone(), changes) {
            Ok(record) => claim.record = record,
            Err(error) => return ControlReply::Failed { message: chain(&error) },
        }
        self.events.record(&self.guest.claim.record, changes.event(), &[]);
        ControlReply::Done
    }

    /// Records the exit on disk and reports it to all waiting clients. Returns whether the machine's restart policy
    /// requests another start.
    pub(super) fn mark_exited(&mut self, exit: &Exit) -> bool {
        self.guest.claim.record.times.finished = Some(jiff::Timestamp::now());
        self.guest.claim.record.vmm = None;
        let may_restart = !self.is_final && self.record().serve.is_none();
        let is_restart_due =
            may_restart && (self.is_restart_requested || is_restart_due(self.record(), exit.code));
        self.enter(match () {
            () if is_restart_due => State::Restarting(exit.clone()),
            // The sweep of another command would remove an exited machine with `--rm`.
            () if self.is_kept && self.record().spec.remove => State::Created,
            () => State::Exited(exit.clone()),
        });
        let code = exit.code.to_string();
        self.events.record(&self.guest.claim.record, "died", &[("exit_code", code)]);
        for waiter in self.exit_waiters.drain(..) {
            waiter.send(ControlReply::Exited { exit: exit.clone() }).ok();
        }
        is_restart_due
    }
}

/// Waits for the guest to acknowledge a signal.
async fn acknowledged(opened: Result<Stream, LinkError>) -> Result<(), LinkError> {
    let mut stream = opened?;
    match tokio::time::timeout(SIGNAL_TIMEOUT, stream.receiver.message::<Reply>()).await {
        Ok(reply) => reply.map(drop),
        Err(_) => Err(LinkError::Violation("does not answer")),
    }
}

fn exit(status: ExitStatus) -> Exit {
    Exit { code: status.shell_code(), out_of_memory: status == ExitStatus::OutOfMemory, error: None }
}

fn failed(error: String) -> Exit {
    Exit { code: 125, out_of_memory: false, error: Some(error) }
}
