//! Probes a machine's health at intervals.

use std::time::Duration;

use mimeo_agent_protocol::link::{Item, Link, LinkError, Stream};
use mimeo_agent_protocol::message::{Input, Process, Reply, Request, channel};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::control::ControlReply;
use crate::machine::{Action, Health, HealthProbe, HealthSpec, HealthStatus, Phase, Refusal, decide};

/// Interval until the first success, so that a start is noticed soon.
const STARTING_INTERVAL: Duration = Duration::from_secs(1);
const SIGKILL: i32 = 9;
/// Bytes of a failed command's output that are stored.
const MAX_OUTPUT: usize = 500;

/// What the task that owns the machine learns of a check.
pub(super) struct HealthReport {
    pub(super) health: Health,
    /// Whether there was a check, and it has failed.
    pub(super) is_failure: bool,
    /// The client that has requested the check, and its reply: it is sent when the health is stored.
    pub(super) answer: Option<(oneshot::Sender<ControlReply>, ControlReply)>,
}

/// A health probe and what it needs.
pub(super) struct Probe {
    pub(super) spec: HealthSpec,
    /// The container's process: a health command runs with its environment and as its user.
    pub(super) process: Process,
    pub(super) link: Link,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) reports: mpsc::Sender<HealthReport>,
    /// Clients that want a check now.
    pub(super) requests: mpsc::Receiver<oneshot::Sender<ControlReply>>,
}

impl Probe {
    /// Probes until the receiver is dropped.
    pub(super) async fn run(mut self) {
        let started = Instant::now();
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, last_failure: None };
        let mut report = HealthReport { health: health.clone(), is_failure: false, answer: None };
        let mut wait = self.is_automatic().then_some(Duration::ZERO);
        while self.reports.send(report).await.is_ok() {
            let client = tokio::select! {
                client = self.requests.recv() => client,
                () = pause(wait) => None,
            };
            report = self.report(health, client, started).await;
            health = report.health.clone();
            let is_starting = health.status == HealthStatus::Starting;
            let interval = self.spec.interval;
            wait = self
                .is_automatic()
                .then(|| if is_starting { STARTING_INTERVAL.min(interval) } else { interval });
        }
    }

    /// Checks once, for a client or without one.
    async fn report(
        &mut self,
        health: Health,
        client: Option<oneshot::Sender<ControlReply>>,
        started: Instant,
    ) -> HealthReport {
        let (health, failure, reply) = match self.check().await {
            Ok(outcome) => {
                let failure = outcome.as_ref().err().cloned();
                let health = next_health(&self.spec, health, outcome, started.elapsed());
                (health, failure.clone(), ControlReply::Checked { failure })
            }
            Err(refusal) => (health, None, ControlReply::Refused { refusal }),
        };
        HealthReport { health, is_failure: failure.is_some(), answer: client.map(|client| (client, reply)) }
    }

    /// Checks once. A check during which the machine did not run all the time says nothing about its health: it is
    /// repeated, or refused if the machine does not run now.
    async fn check(&mut self) -> Result<Result<(), String>, Refusal> {
        loop {
            decide(*self.phase.borrow_and_update(), Action::Enter)?;
            let outcome = self.attempt().await;
            if !self.phase.has_changed().unwrap_or(false) {
                return Ok(outcome);
            }
        }
    }

    /// Whether it also probes without a request.
    fn is_automatic(&self) -> bool {
        !self.spec.interval.is_zero()
    }

    async fn attempt(&self) -> Result<(), String> {
        match timeout(self.spec.timeout, self.run_probe()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no reply within {} s", self.spec.timeout.as_secs_f32())),
        }
    }

    async fn run_probe(&self) -> Result<Result<(), String>, LinkError> {
        match &self.spec.probe {
            HealthProbe::Url(url) => self.probe_url(url).await,
            HealthProbe::Command(args) => self.run_command(args).await,
        }
    }

    async fn probe_url(&self, url: &str) -> Result<Result<(), String>, LinkError> {
        let timeout_ms = self.spec.timeout.as_millis() as u64;
        let mut stream = self.link.open(&Request::Probe { url: url.to_owned(), timeout_ms })?;
        Ok(match stream.receiver.message().await? {
            Reply::Probed { status: 200..=399 } => Ok(()),
            Reply::Probed { status } => Err(format!("{url} answered {status}")),
            Reply::Failed(failure) => Err(failure.to_string()),
            answer => Err(format!("unexpected reply: {answer:?}")),
        })
    }

    async fn run_command(&self, args: &[String]) -> Result<Result<(), String>, LinkError> {
        let process = Process {
            args: args.to_vec(),
            terminal: None,
            stdin: false,
            init: false,
            ..self.process.clone()
        };
        // Dropping the stream on a timeout kills the command.
        let mut stream = CommandStream(self.link.open(&Request::Exec(process))?);
        let mut output = Vec::new();
        loop {
            match stream.0.receiver.next().await? {
                Some(Item::Data { channel: channel::STDOUT | channel::STDERR, bytes }) => {
                    output.extend_from_slice(&bytes[..bytes.len().min(MAX_OUTPUT - output.len())]);
                }
                Some(Item::Message(json)) => match serde_json::from_slice(&json) {
                    Ok(Reply::Exited { status }) if status.shell_code() == 0 => return Ok(Ok(())),
                    Ok(Reply::Exited { status }) => {
                        let text = String::from_utf8_lossy(&output).trim().to_owned();
                        return Ok(Err(format!("exit code {}: {text}", status.shell_code())));
                    }
                    Ok(Reply::Failed(failure)) => return Ok(Err(failure.to_string())),
                    _ => {}
                },
                Some(Item::Data { .. }) => {}
                None => return Ok(Err("the command ended without a status".to_owned())),
            }
        }
    }
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The stream of a health command. Dropping it kills the command if it still runs.
struct CommandStream(Stream);

impl Drop for CommandStream {
    fn drop(&mut self) {
        self.0.sender.message(&Input::Signal { signal: SIGKILL });
    }
}

/// A machine's health after one probe.
fn next_health(spec: &HealthSpec, health: Health, outcome: Result<(), String>, age: Duration) -> Health {
    let Err(failure) = outcome else {
        return Health {
            status: HealthStatus::Healthy,
            failing_streak: 0,
            last_failure: health.last_failure,
        };
    };
    let starting = health.status == HealthStatus::Starting;
    if starting && age < spec.start_period {
        return Health { last_failure: Some(failure), ..health };
    }
    let failing_streak = health.failing_streak + 1;
    let status = if failing_streak >= spec.retries { HealthStatus::Unhealthy } else { health.status };
    Health { status, failing_streak, last_failure: Some(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(outcomes: &[(bool, u64)]) -> Vec<HealthStatus> {
        let spec = HealthSpec::new(HealthProbe::Url(String::new()));
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, last_failure: None };
        let probe_once = |(succeeded, age): &(bool, u64)| {
            let outcome = if *succeeded { Ok(()) } else { Err("no".to_owned()) };
            health = next_health(&spec, health.clone(), outcome, Duration::from_secs(*age));
            health.status
        };
        outcomes.iter().map(probe_once).collect()
    }

    #[test]
    fn failures_during_the_start_period_do_not_count() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        assert_eq!(
            statuses(&[(false, 1), (false, 2), (false, 3), (false, 4), (true, 5)]),
            [Starting, Starting, Starting, Starting, Healthy]
        );
        assert_eq!(
            statuses(&[(true, 1), (false, 2), (false, 3), (false, 4), (true, 5)]),
            [Healthy, Healthy, Healthy, Unhealthy, Healthy]
        );
        assert_eq!(statuses(&[(false, 61), (false, 62), (false, 63)]), [Starting, Starting, Unhealthy]);
    }
}
