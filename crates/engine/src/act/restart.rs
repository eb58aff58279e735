//! `restart`: stops a machine, if it runs, and starts it again.

use super::{ActError, StopOptions, end, start, stop};
use crate::Engine;
use crate::control::StopPurpose;
use crate::machine::Found;

/// Stops the machine if it runs, and starts it.
///
/// # Errors
/// If the machine does not end, or does not start.
pub async fn restart(engine: &Engine, machine: &Found, timeout: Option<u32>) -> Result<(), ActError> {
    stop(engine, machine, StopOptions { timeout, purpose: StopPurpose::Restart }).await?;
    let gone = || ActError::Gone { name: machine.record.name.clone() };
    let stopped = engine.registry().read(&machine.record.id).ok_or_else(gone)?;
    start(engine, &end::settle(engine, &stopped).await?, None).await.map(drop)
}
