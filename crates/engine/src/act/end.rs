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
/// How long another command may use the machine's disk.
pub(super) const FILES_TIMEOUT: Duration = Duration::from_secs(600);
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

/// A wait with a timeout. The time in which a command uses the machine's disk does not count, but is limited, too: that
/// command may wait for this one.
pub(super) struct Wait {
    timeout: Duration,
    deadline: Instant,
    files_timeout: Duration,
    files_deadline: Instant,
    is_announced: bool,
}

impl Wait {
    pub(super) fn new(timeout: Duration, files_timeout: Duration) -> Self {
        let now = Instant::now();
        let (deadline, files_deadline) = (now + timeout, now + files_timeout);
        Self { timeout, deadline, files_timeout, files_deadline, is_announced: false }
    }

    /// Returns whether the time is over. Logs once which command the machine waits for.
    ///
    /// # Errors
    /// If that command has used the disk for too long.
    pub(super) fn is_over(&mut self, engine: &Engine, machine: &Found) -> Result<bool, ActError> {
        let user = engine.registry().user_of_files(&machine.record.id);
        let (name, timeout) = (&machine.record.name, self.files_timeout);
        let is_over = self.is_over_at(Instant::now(), user.is_some());
        match user {
            Some(pid) if is_over => Err(ActError::FilesInUse { name: name.clone(), pid, timeout }),
            Some(pid) => {
                if !std::mem::replace(&mut self.is_announced, true) {
                    tracing::warn!(component = "files", machine = %name, pid, "another command uses the machine's disk: waiting for it");
                }
                Ok(false)
            }
            None => Ok(is_over),
        }
    }

    fn is_over_at(&mut self, now: Instant, is_in_use: bool) -> bool {
        if !is_in_use {
            return now > self.deadline;
        }
        self.deadline = now + self.timeout;
        now > self.files_deadline
    }
}

/// Returns the machine's current state. A machine that has exited has no supervisor any more then: one that still cleans
/// up is waited for, and what a dead one left behind is swept.
pub(super) async fn settle(engine: &Engine, machine: &Found) -> Result<Found, ActError> {
    settle_within(engine, machine, &mut Wait::new(FINISH_TIMEOUT, FILES_TIMEOUT)).await
}

/// [`settle`] with a wait that may have begun before.
pub(super) async fn settle_within(
    engine: &Engine,
    machine: &Found,
    wait: &mut Wait,
) -> Result<Found, ActError> {
    if machine.supervised && machine.record.phase().is_live() {
        return Ok(machine.clone());
    }
    let mut machine = read(engine, machine)?;
    // Another command may start it meanwhile.
    while machine.supervised && !machine.record.phase().is_live() {
        if wait.is_over(engine, &machine)? {
            return Err(not_ended(&machine, wait.timeout));
        }
        sleep(POLL_INTERVAL).await;
        machine = read(engine, &machine)?;
    }
    if machine.supervised || !machine.record.phase().is_live() {
        return Ok(machine);
    }
    sweep(engine)?;
    read(engine, &machine)
}

/// Reads the machine again.
pub(super) fn read(engine: &Engine, machine: &Found) -> Result<Found, ActError> {
    let gone = || ActError::Gone { name: machine.record.name.clone() };
    engine.registry().read(&machine.record.id).ok_or_else(gone)
}

pub(super) fn not_ended(machine: &Found, timeout: Duration) -> ActError {
    let (name, pid) = (machine.record.name.clone(), machine.record.supervisor.pid);
    ActError::NotEnded { name, pid, timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_however_the_time_is_used() {
        let second = Duration::from_secs(1);
        let mut wait = Wait::new(2 * second, 5 * second);
        let begin = wait.deadline - 2 * second;
        let mut is_over = |seconds: u32, is_in_use| wait.is_over_at(begin + seconds * second, is_in_use);
        assert!(!is_over(1, false));
        // The time that another command uses the disk does not count.
        assert!(!is_over(4, true));
        assert!(!is_over(5, false));
        assert!(is_over(7, false));
        // Its own time does.
        assert!(is_over(6, true));
    }
}
