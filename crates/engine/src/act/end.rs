//! Ending a monitor by its process: for machines whose monitor does not
//! answer, since it is still making them or has lost its mind.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::ActError;
use crate::Engine;
use crate::machine::Found;

/// How long a monitor may take to undo what it has begun.
pub(super) const UNDO: Duration = Duration::from_secs(30);
/// How long a monitor may take to power off the guest and to clear away.
pub(super) const FINISH: Duration = Duration::from_secs(20);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(10);

/// Asks the monitor's process to end and waits until it has.
pub(super) async fn interrupt(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    send(machine, Signal::TERM)?;
    // It may have come up just before: then the signal is the container's first.
    let patience = UNDO + Duration::from_secs(machine.record.spec.stop_timeout.into());
    until_unowned(engine, machine, patience).await
}

/// Ends the monitor's process at once; the kernel ends its virtual machine with it.
pub(super) async fn destroy(engine: &Engine, machine: &Found) -> Result<(), ActError> {
    send(machine, Signal::KILL)?;
    until_unowned(engine, machine, FINISH).await
}

fn send(machine: &Found, signal: Signal) -> Result<(), ActError> {
    let supervisor = &machine.record.supervisor;
    let failed = |source| ActError::Signal { name: machine.record.name.clone(), pid: supervisor.pid, source };
    supervisor.send(signal).map_err(failed)
}

/// Waits until the machine has no monitor any more, or is gone.
pub(super) async fn until_unowned(
    engine: &Engine,
    machine: &Found,
    within: Duration,
) -> Result<(), ActError> {
    let deadline = Instant::now() + within;
    while engine.registry().is_owned(&machine.record.id) {
        if Instant::now() > deadline {
            let (name, pid) = (machine.record.name.clone(), machine.record.supervisor.pid);
            return Err(ActError::Stubborn { name, pid, within });
        }
        sleep(LOOK).await;
    }
    Ok(())
}
