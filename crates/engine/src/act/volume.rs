//! `volume rm`: removes a named volume that no machine refers to.

use super::{ActError, remove};
use crate::Engine;
use crate::machine::{Found, LookupError};
use crate::volumes::{VolumeError, VolumeName};

/// Returns the machines that refer to the volume, whether they run or not.
///
/// # Errors
/// If the machines cannot be listed.
pub fn volume_users(engine: &Engine, name: &VolumeName) -> Result<Vec<Found>, LookupError> {
    let mut machines = engine.registry().list()?;
    machines.retain(|machine| machine.record.refers_to(name));
    Ok(machines)
}

/// Removes the volume and its content. With `force` the machines that refer to it are removed first; each has `grace`
/// seconds to stop.
///
/// # Errors
/// If machines refer to it and removal is not forced, or it cannot be removed.
pub async fn remove_volume(
    engine: &Engine,
    name: &VolumeName,
    force: bool,
    grace: Option<u32>,
) -> Result<(), ActError> {
    if force {
        for machine in volume_users(engine, name)? {
            remove(engine, &machine, true, grace).await?;
        }
    }
    let volumes = engine.volumes();
    // A machine is listed before it locks its volumes, and creates those that are missing under this lock.
    let _store_lock = volumes.lock()?;
    let users = volume_users(engine, name)?;
    if users.is_empty() && volumes.remove(name)? {
        return Ok(());
    }
    let users = users.into_iter().map(|machine| machine.record.id.to_string()).collect();
    Err(VolumeError::InUse { name: name.clone(), users }.into())
}
