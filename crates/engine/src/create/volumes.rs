//! The disks of a machine's named volumes: locked, and made where there are none, before the VMM starts.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use mimeo_vmm::Driver;

use crate::Engine;
use crate::disk_layers::existing_layers;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;
use crate::machine::{Claim, ProcessIdentity, VolumeDisk, named_volumes, volume_serial};
use crate::stage::StageError;
use crate::volumes::{Access, Volume, VolumeLock, VolumeName};

/// How long the VMM of a killed supervisor may take to end.
const VMM_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Creates the named volumes of a machine that do not exist.
pub(super) fn ensure_volumes(engine: &Engine, claim: &Claim) -> Result<(), StageError> {
    for (name, _) in named_volumes(&claim.record.spec) {
        engine.volumes().ensure(&name)?;
    }
    Ok(())
}

/// Locks the machine's named volumes for as long as the claim lives, and notes their disks in its record.
pub(crate) fn attach_volumes(
    engine: &Engine,
    claim: &mut Claim,
    driver: &dyn Driver,
) -> Result<(), StageError> {
    let mut named: Vec<_> = named_volumes(&claim.record.spec).into_iter().enumerate().collect();
    // Two machines with the same volumes lock them in the same order.
    named.sort_by(|(_, (a, _)), (_, (b, _))| a.cmp(b));
    let (mut disks, mut locks) = (Vec::new(), Vec::new());
    for (index, (name, read_only)) in named {
        let (disk, lock) = match own_disk(claim, index)? {
            Some(disk) => (disk, None),
            None => attach(engine, claim, index, name, read_only)?,
        };
        if disk.layers > 1 && !driver.capabilities().disk_layers {
            return Err(StageError::VolumeLayers { volume: disk.name, driver: driver.name() });
        }
        disks.push((index, disk));
        locks.extend(lock);
    }
    disks.sort_by_key(|(index, _)| *index);
    claim.record.volumes = disks.into_iter().map(|(_, disk)| disk).collect();
    claim.volume_locks = locks;
    Ok(())
}

/// The disk of a clone's own copy of a volume; `None` for a volume that is not a copy.
fn own_disk(claim: &Claim, index: usize) -> Result<Option<VolumeDisk>, StageError> {
    let Some(disk) = claim.record.volumes.get(index).filter(|volume| volume.own).cloned() else {
        return Ok(None);
    };
    let layers = existing_layers(&claim.dir.join(volume_serial(index)));
    if layers == 0 {
        return Err(StageError::DiskLost { dir: claim.dir.clone() });
    }
    Ok(Some(VolumeDisk { layers, ..disk }))
}

fn attach(
    engine: &Engine,
    claim: &Claim,
    index: usize,
    name: VolumeName,
    read_only: bool,
) -> Result<(VolumeDisk, Option<VolumeLock>), StageError> {
    let volumes = engine.volumes();
    let volume = volumes.ensure(&name)?;
    // The first machine that uses a volume writes to its disk, also where its container may not; so does the first after
    // one that was killed, since it replays the journal.
    let read_only = read_only && volumes.is_mountable_read_only(&name)?;
    let access = if read_only { Access::Shared } else { Access::Exclusive };
    let lock = volumes.attach(&name, access)?.ok_or_else(|| in_use(engine, claim, &volume))?;
    wait_for_vmms(engine, &name)?;
    let layers =
        if read_only { existing_layers(&volumes.dir(&name)) } else { volumes.ensure_disk(&volume)? };
    link(&volumes.dir(&name), &claim.dir.join(volume_serial(index)))?;
    Ok((VolumeDisk { name, own: false, layers, bytes: volume.bytes, read_only }, Some(lock)))
}

/// Waits until no VMM of a dead supervisor has the volume open any more: the kernel releases the lock of a process that is
/// killed a moment before it kills that process's VMM.
fn wait_for_vmms(engine: &Engine, name: &VolumeName) -> Result<(), StageError> {
    let end = Instant::now() + VMM_TIMEOUT;
    let uses = |disk: &VolumeDisk| !disk.own && disk.name == *name;
    let orphans = engine.registry().list_stored().unwrap_or_default().into_iter();
    for machine in orphans.filter(|other| !other.supervised && other.record.volumes.iter().any(uses)) {
        while machine.record.vmm.as_ref().is_some_and(ProcessIdentity::is_alive) {
            if Instant::now() > end {
                let user = format!("the VMM of machine {}, whose supervisor was killed", machine.record.name);
                return Err(StageError::VolumeInUse { volume: name.clone(), user });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(())
}

/// Links the volume's directory into the machine's.
fn link(volume: &Path, link: &Path) -> Result<(), StageError> {
    if std::fs::read_link(link).is_ok_and(|target| target == volume) {
        return Ok(());
    }
    // The home directory may have been moved.
    std::fs::remove_file(link).log_ignored("remove the link", link);
    Ok(symlink(volume, link).at("create", link)?)
}

/// The error that names the machine that uses the volume: one that has its disk, or else one that is about to.
fn in_use(engine: &Engine, claim: &Claim, volume: &Volume) -> StageError {
    let mut others = engine.registry().list().unwrap_or_default();
    others.retain(|other| other.supervised && other.record.id != claim.record.id);
    let uses = |disk: &VolumeDisk| !disk.own && disk.name == volume.name;
    let user = others.iter().find(|other| other.record.volumes.iter().any(uses));
    let user = user.or_else(|| others.iter().find(|other| other.record.refers_to(&volume.name)));
    let user =
        user.map_or_else(|| "another machine".to_owned(), |user| format!("machine {}", user.record.name));
    StageError::VolumeInUse { volume: volume.name.clone(), user }
}
