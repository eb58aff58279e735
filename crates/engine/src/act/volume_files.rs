//! `volume export` and `volume import`: the files of a named volume, whether a machine uses it or not.

use super::files::{self, Files};
use super::{ActError, volume_users};
use crate::Engine;
use crate::create::{OPENED_VOLUME, open_volume};
use crate::machine::Found;
use crate::volumes::VolumeName;

/// Opens the files of a volume, and returns their path in the guest. Call [`Files::close`] at the end: what was written
/// may be lost without it. Call it on a thread that lives as long as the result: it may be the parent of a VMM.
///
/// # Errors
/// If the machine that uses the volume does not allow it, or no guest can be started for it.
pub async fn open(engine: &Engine, volume: &VolumeName) -> Result<(Files, String), ActError> {
    // A machine without an image is another command that opens the volume.
    let is_user = |machine: &Found| machine.record.phase().is_live() && machine.record.image.is_some();
    let user = volume_users(engine, volume)?.into_iter().find(is_user);
    if let Some(machine) = user {
        let mounts = &machine.record.spec.volume_mounts;
        let mount = mounts.iter().find(|mount| mount.name.as_ref() == Some(volume));
        let path = mount.map(|mount| mount.target.clone()).unwrap_or_default();
        return Ok((files::open(engine, &machine, files::PIPE_TIMEOUT).await?, path));
    }
    let opened = open_volume(engine, volume).await;
    let failed = |source| ActError::OpenVolume { name: volume.clone(), source: Box::new(source) };
    Ok((Files::of_guest(engine, opened.map_err(failed)?), OPENED_VOLUME.to_owned()))
}
