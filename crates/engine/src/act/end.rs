//! Ends a supervisor by a signal to its process, for machines whose supervisor does not answer: it is still
//! creating the machine, or it hangs.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::ActError;
use crate::machine::Found;
use crate::{Engine, sweep};

/// How long a supervisor may take to undo the creation of a machine.
pub(super) const UNDO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a supervisor may take to power off the guest and to clean up.
pub(super) const FINISH_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval between checks for the supervisor's end.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Sends the supervisor SIGTERM and waits until it has ended.
pub(super) async fn terminate_supervisor(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    signal_supervisor(machine, Signal::TERM)?;
    // The machine may have started just before: then the signal goes to the container first.
    let timeout = UNDO_TIMEOUT + Duration::from_secs(machine.record.spec.stop_timeout.into());
    wait_until_unowned(engine, machine, timeout).await
}

/// Kills the supervisor; the kernel kills its VMM with it.
pub(super) async fn kill_supervisor(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    signal_supervisor(machine, Signal::KILL)?;
    wait_until_unowned(engine, machine, FINISH_TIMEOUT).await
}

fn signal_supervisor(machine: &Found, signal: Signal) -> Result<(), ActError> {
    let supervisor = &machine.record.supervisor;
    let failed = |source| ActError::Signal { name: machine.record.name.clone(), pid: supervisor.pid, source };
    supervisor.send(signal).map_err(failed)
}

/// Waits until the machine has no supervisor any more, or no longer exists.
pub(super) async fn wait_until_unowned(
    engine: &Engine,
    machine: &Found,
    timeout: Duration,
) -> Result<(), ActError> {
    let deadline = Instant::now() + timeout;
    while engine.registry().is_supervised(&machine.record.id) {
        if Instant::now() > deadline {
            return Err(not_ended(machine, timeout));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Waits until the supervisor of a machine that has exited has cleaned up. A command that uses the machine's disk is waited
/// for as long as it lives.
async fn wait_until_finished(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    let mut wait = Wait::new(FINISH_TIMEOUT);
    while engine.registry().is_supervised(&machine.record.id) {
        if wait.is_over(engine, machine) {
            return Err(not_ended(machine, FINISH_TIMEOUT));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// A wait with a timeout, in which the time does not count that a command uses the machine's disk.
pub(super) struct Wait {
    timeout: Duration,
    deadline: Instant,
    is_announced: bool,
}

impl Wait {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, deadline: Instant::now() + timeout, is_announced: false }
    }

    /// Returns whether the time is over. Logs once which command the machine waits for.
    pub(super) fn is_over(&mut self, engine: &Engine, machine: &Found) -> bool {
        let Some(pid) = engine.registry().user_of_files(&machine.record.id) else {
            return Instant::now() > self.deadline;
        };
        self.deadline = Instant::now() + self.timeout;
        if !std::mem::replace(&mut self.is_announced, true) {
            let name = &machine.record.name;
            tracing::warn!(component = "files", machine = %name, pid, "another command uses the machine's disk: waiting for it");
        }
        false
    }
}

/// Returns the machine's current state. A machine that has exited has no supervisor any more then: one that still cleans
/// up is waited for, and what a dead one left behind is swept.
pub(super) async fn settle(engine: &Engine, machine: &Found) -> Result<Found, ActError> {
    if machine.supervised && machine.record.phase().is_live() {
        return Ok(machine.clone());
    }
    if machine.supervised {
        wait_until_finished(engine, machine).await?;
    } else if machine.record.phase().is_live() {
        sweep(engine)?;
    }
    let gone = || ActError::Gone { name: machine.record.name.clone() };
    engine.registry().read(&machine.record.id).ok_or_else(gone)
}

pub(super) fn not_ended(machine: &Found, timeout: Duration) -> ActError {
    let (name, pid) = (machine.record.name.clone(), machine.record.supervisor.pid);
    ActError::NotEnded { name, pid, timeout }
}
