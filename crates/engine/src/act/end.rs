//! Ending a monitor by its process: for machines whose monitor does not
//! answer, since it is still making them or has lost its mind.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::ActError;
use crate::Engine;
use crate::machine::Found;

/// How long a monitor may take to undo what it has begun.
pub(super) const UNDO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a monitor may take to power off the guest and to clear away.
pub(super) const FINISH_TIMEOUT: Duration = Duration::from_secs(20);
/// From one look to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Asks the monitor's process to end and waits until it has.
pub(super) async fn terminate_supervisor(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    signal_supervisor(machine, Signal::TERM)?;
    // It may have come up just before: then the signal is the container's first.
    let timeout = UNDO_TIMEOUT + Duration::from_secs(machine.record.spec.stop_timeout.into());
    wait_until_unowned(engine, machine, timeout).await
}

/// Ends the monitor's process at once; the kernel ends its virtual machine with it.
pub(super) async fn kill_supervisor(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    signal_supervisor(machine, Signal::KILL)?;
    wait_until_unowned(engine, machine, FINISH_TIMEOUT).await
}

fn signal_supervisor(machine: &Found, signal: Signal) -> Result<(), ActError> {
    let supervisor = &machine.record.supervisor;
    let failed = |source| ActError::Signal { name: machine.record.name.clone(), pid: supervisor.pid, source };
    supervisor.send(signal).map_err(failed)
}

/// Waits until the machine has no monitor any more, or is gone.
pub(super) async fn wait_until_unowned(
    engine: &Engine,
    machine: &Found,
    timeout: Duration,
) -> Result<(), ActError> {
    let deadline = Instant::now() + timeout;
    while engine.registry().is_owned(&machine.record.id) {
        if Instant::now() > deadline {
            let (name, pid) = (machine.record.name.clone(), machine.record.supervisor.pid);
            return Err(ActError::NotEnded { name, pid, timeout });
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
