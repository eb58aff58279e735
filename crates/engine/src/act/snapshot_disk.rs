//! `snapshot create` of a machine that does not run: a snapshot of its disk, without memory.

use std::time::Duration;

use jiff::Timestamp;

use super::ActError;
use crate::clone::add_layer_file;
use crate::control::SavedSnapshot;
use crate::create::existing_layers;
use crate::ignored::LogIgnored;
use crate::launch_spec::{requires, shape};
use crate::machine::{Claim, Found, MachineName, Requirements, boot_id};
use crate::snapshot::{self, Draft, Kind, MAX_LAYERS, Manifest};
use crate::stage::StageError;
use crate::{Engine, accelerator, driver};
use mimeo_image::disk_copy;
use mimeo_setup::Kernel;

/// Takes a snapshot of the machine's disk. The machine is unchanged, except that its later writes go to a new layer.
pub(super) fn snapshot_disk(
    engine: &Engine,
    machine: &Found,
    tag: Option<MachineName>,
) -> Result<SavedSnapshot, ActError> {
    let claim = engine.registry().claim_for_files(&machine.record.id)?;
    let failed =
        |source| ActError::SnapshotDisk { name: machine.record.name.clone(), source: Box::new(source) };
    let snapshot = save(engine, claim, tag).map_err(failed)?;
    engine.events().record(&machine.record, "snapshot", &[]);
    Ok(SavedSnapshot { snapshot, pause_micros: 0, memory_bytes: 0 })
}

fn save(
    engine: &Engine,
    mut claim: Claim,
    tag: Option<MachineName>,
) -> Result<crate::SnapshotId, StageError> {
    let store = engine.snapshots();
    if let Some(tag) = &tag {
        store.check_tag(tag)?;
    }
    let requires = requirements(engine, &claim)?;
    let layers = existing_layers(&claim.dir);
    let draft = Draft::create(&store)?;
    claim.record.disk_layers = layers;
    let committed = commit(engine, &claim, draft, tag, requires);
    if committed.is_err() {
        remove_layer(&claim, layers);
    }
    committed
}

fn commit(
    engine: &Engine,
    claim: &Claim,
    draft: Draft,
    tag: Option<MachineName>,
    requires: Requirements,
) -> Result<crate::SnapshotId, StageError> {
    let layers = claim.record.disk_layers;
    freeze_disk(engine, claim, layers, &draft)?;
    let names = (0..layers).map(snapshot::layer_file_name);
    let files = names.map(|name| draft.file(&name, true)).collect::<Result<_, _>>()?;
    let manifest = Manifest {
        format: Manifest::DISK_FORMAT,
        id: draft.id.clone(),
        tag,
        kind: Kind::Snapshot,
        created: Timestamp::now(),
        parent: None,
        machine: Some(claim.record.clone()),
        requires,
        disk_layers: layers,
        memory_bytes: 0,
        boot_id: boot_id(),
        pause_micros: Duration::ZERO.as_micros() as u64,
        files,
    };
    draft.commit(&manifest)?;
    Ok(manifest.id)
}

/// Puts the disk's layers into the draft. Where the driver supports layers, the machine gets an empty one above them
/// first, so that they never change again.
fn freeze_disk(engine: &Engine, claim: &Claim, layers: u32, draft: &Draft) -> Result<(), StageError> {
    let driver = driver::find(engine, &claim.record.spec.driver)?;
    if !driver.capabilities().disk_layers {
        let name = snapshot::layer_file_name(0);
        return Ok(disk_copy::copy(&claim.dir.join(&name), &draft.dir.join(&name))?);
    }
    if layers >= MAX_LAYERS {
        return Err(StageError::DiskLayers { max: MAX_LAYERS });
    }
    for name in (0..layers).map(snapshot::layer_file_name) {
        draft.link(&claim.dir.join(&name), &name)?;
    }
    add_layer_file(&claim.dir, layers, claim.record.spec.disk_bytes)
}

/// Removes the layer that was added for a snapshot that failed. Nothing has written to it: the claim is held.
fn remove_layer(claim: &Claim, layer: u32) {
    let path = claim.dir.join(snapshot::layer_file_name(layer));
    if path.exists() {
        std::fs::remove_file(&path).log_ignored("remove the empty layer", &path);
    }
}

/// What a host needs to start machines with this disk. A machine that has never been started has no record of it yet.
fn requirements(engine: &Engine, claim: &Claim) -> Result<Requirements, StageError> {
    if let Some(requires) = &claim.record.requires {
        return Ok(requires.clone());
    }
    let spec = &claim.record.spec;
    let driver = driver::find(engine, &spec.driver)?;
    let kernel = Kernel::load(engine.home().home())?;
    let chosen = accelerator::choose(engine.home(), spec.accelerator, driver.as_ref(), &kernel);
    let shape = shape(engine.home(), &kernel, spec, chosen.accelerator);
    Ok(requires(driver.as_ref(), &kernel, &shape))
}
