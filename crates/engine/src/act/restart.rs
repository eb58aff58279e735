//! `restart`: stops a machine, if it runs, and starts it again.

use super::{ActError, StopOptions, end, start, stop};
use crate::Engine;
use crate::machine::Found;

/// Stops the machine if it runs, and starts it.
///
/// # Errors
/// If the machine does not end, or does not start.
pub async fn restart(engine: &Engine, machine: &Found, options: StopOptions) -> Result<(), ActError> {
    stop(engine, machine, options).await?;
    // The supervisor reports the exit shortly before it has finished cleaning up.
    end::wait_until_unowned(engine, machine, end::FINISH_TIMEOUT).await?;
    let gone = || ActError::Gone { name: machine.record.name.clone() };
    let stopped = engine.registry().read(&machine.record.id).ok_or_else(gone)?;
    start(engine, &stopped, None).await.map(drop)
}
