//! `snapshot create` of a machine that does not run: a snapshot of its disk, without memory.

use std::time::Duration;

use jiff::Timestamp;

use super::ActError;
use crate::control::SavedSnapshot;
use crate::create::attach_volumes;
use crate::disk_layers::{MAX_LAYERS, add_durable_layer, existing_layers};
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::launch_spec::{requires, shape};
use crate::machine::{Claim, Found, MachineDisk, MachineName, Requirements, boot_id, machine_disks};
use crate::snapshot::{Draft, Kind, Manifest};
use crate::stage::StageError;
use crate::{Engine, accelerator, driver};
use mimeo_setup::Kernel;
use mimeo_vmm::Driver;

/// Takes a snapshot of the machine's disk. The machine is unchanged, except that its later writes go to a new layer.
pub(super) fn snapshot_disk(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
    id: Option<SnapshotId>,
) -> Result<SavedSnapshot, ActError> {
    if let Some(snapshot) = id.as_ref().and_then(|id| engine.snapshots().read(id).ok()) {
        return Ok(SavedSnapshot { snapshot: snapshot.manifest.id, pause_micros: 0, memory_bytes: 0 });
    }
    let claim = engine.registry().claim_for_files(&machine.record.id)?;
    let failed =
        |source| ActError::SnapshotDisk { name: machine.record.name.clone(), source: Box::new(source) };
    let snapshot = save(engine, claim, tag, id.unwrap_or_else(SnapshotId::random)).map_err(failed)?;
    engine.events().record(&machine.record, "snapshot", &[]);
    Ok(SavedSnapshot { snapshot, pause_micros: 0, memory_bytes: 0 })
}

fn save(
    engine: &Engine,
    mut claim: Claim,
    tag: Option<MachineName>,
    id: SnapshotId,
) -> Result<SnapshotId, StageError> {
    let store = engine.snapshots();
    if let Some(tag) = &tag {
        store.check_tag(tag)?;
    }
    let driver = driver::find(engine, &claim.record.spec.driver)?;
    let requires = requirements(engine, driver.as_ref(), &claim)?;
    claim.record.disk_layers = existing_layers(&claim.dir);
    attach_volumes(engine, &mut claim, driver.as_ref())?;
    let disks = machine_disks(&claim.dir, &claim.record);
    let draft = Draft::create(&store, id)?;
    let frozen = freeze_disks(engine, driver.as_ref(), &disks, &draft);
    let committed = frozen.and_then(|()| commit(&claim, &disks, draft, tag, requires));
    if committed.is_err() {
        disks.iter().for_each(remove_layer);
    }
    committed
}

fn commit(
    claim: &Claim,
    disks: &[MachineDisk],
    draft: Draft,
    tag: Option<MachineName>,
    requires: Requirements,
) -> Result<SnapshotId, StageError> {
    let names = disks.iter().flat_map(MachineDisk::saved_names);
    let files = names.map(|name| draft.file(&name, true)).collect::<Result<_, _>>()?;
    let manifest = Manifest {
        format: Manifest::disk_format_of(&claim.record),
        id: draft.id.clone(),
        tag,
        kind: Kind::Snapshot,
        created: Timestamp::now(),
        parent: None,
        machine: Some(claim.record.clone()),
        requires,
        disk_layers: claim.record.disk_layers,
        memory_bytes: 0,
        boot_id: boot_id(),
        pause_micros: Duration::ZERO.as_micros() as u64,
        files,
        boot: None,
    };
    draft.commit(&manifest)?;
    Ok(manifest.id)
}

/// Puts the disks' layers into the draft. Where the driver supports layers, each disk gets an empty one above them
/// first, so that they never change again.
fn freeze_disks(
    engine: &Engine,
    driver: &dyn Driver,
    disks: &[MachineDisk],
    draft: &Draft,
) -> Result<(), StageError> {
    if !driver.capabilities().disk_layers {
        return Ok(disks.iter().try_for_each(|disk| draft.copy_disk(disk))?);
    }
    if disks.iter().any(|disk| disk.layers >= MAX_LAYERS) {
        return Err(StageError::DiskLayers { max: MAX_LAYERS });
    }
    for disk in disks {
        draft.link_disk(disk)?;
        match disk.read_only {
            true => engine.volumes().seal(&disk.dir, disk.layers, disk.bytes)?,
            false => add_durable_layer(&disk.dir, disk.layers, disk.bytes)?,
        }
    }
    Ok(())
}

/// Removes the layer that was added for a snapshot that failed. Nothing has written to it: the claim is held.
fn remove_layer(disk: &MachineDisk) {
    let path = disk.layer(disk.layers);
    // Other machines may read a disk that this one only reads.
    if !disk.read_only && path.exists() {
        std::fs::remove_file(&path).log_ignored("remove the empty layer", &path);
    }
}

/// What a host needs to start machines with this disk. A machine that has never been started has no record of it yet.
fn requirements(engine: &Engine, driver: &dyn Driver, claim: &Claim) -> Result<Requirements, StageError> {
    if let Some(requires) = &claim.record.requires {
        return Ok(requires.clone());
    }
    let spec = &claim.record.spec;
    let kernel = Kernel::load(engine.home().home())?;
    let chosen = accelerator::choose(engine.home(), spec.accelerator, driver, &kernel);
    let shape = shape(engine.home(), &kernel, spec, chosen.accelerator);
    Ok(requires(driver, &kernel, &shape))
}
