//! Stage 1: the snapshot may be loaded here; the copy has an id, a name and a network.

use std::sync::Arc;

use mimeo_image::Image;
use mimeo_vmm::Driver;

use crate::create::{Stopwatch, process};
use crate::id::SnapshotId;
use crate::identity;
use crate::launch_request::{CloneRequest, HoldPolicy};
use crate::machine::{BOOTED_AS_CLONE, Claim, CloneOverrides, MachineSpec, Record};
use crate::snapshot::{self, Kind, LoadError, Snapshot};
use crate::stage::StageError;
use crate::{Engine, driver};

/// A copy that is asked for and possible.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) claim: Claim,
    pub(super) snapshot: Snapshot,
    pub(super) image: Image,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) clock: Stopwatch,
    /// Who gives it its memory, page by page.
    pub(super) pager: Option<std::path::PathBuf>,
    /// Others begin from the same snapshot.
    pub(super) has_siblings: bool,
}

/// Judges the snapshot and claims id, name and network. Undo: the claim's drop.
pub(super) fn plan(engine: &Engine, request: &CloneRequest) -> Result<Planned, StageError> {
    let mut clock = Stopwatch::start();
    let CloneSource { snapshot, machine: source, image, driver } = load_source(engine, &request.snapshot)?;
    let spec = clone_spec(&source, &request.overrides);
    // The image's environment and the copy's own: the original's is withdrawn.
    let process = process::container_process(&spec, &image.config)?;
    let claim = engine.registry().claim_as(spec, |record| {
        inherit(record, source, &snapshot, driver.as_ref());
        record.process = process;
        record.serve.clone_from(&request.serve);
        record.waiting = request.hold == HoldPolicy::Pool;
    })?;
    clock.lap("plan");
    Ok(Planned {
        claim,
        snapshot,
        image,
        driver,
        clock,
        pager: request.pager.clone(),
        has_siblings: request.is_of_many(),
    })
}

/// What copies are made of.
pub(super) struct CloneSource {
    pub(super) snapshot: Snapshot,
    /// The machine that was kept.
    pub(super) machine: Record,
    pub(super) image: Image,
    pub(super) driver: Arc<dyn Driver>,
}

/// Reads and verifies a snapshot, and finds what a copy of it needs divergent_pages.
pub(super) fn load_source(engine: &Engine, snapshot: &SnapshotId) -> Result<CloneSource, StageError> {
    let store = engine.snapshots();
    let snapshot = store.read(snapshot)?;
    let Some(machine) = snapshot.manifest.machine.clone().filter(|_| snapshot.manifest.kind != Kind::Runtime)
    else {
        return Err(LoadError::Runtime.into());
    };
    snapshot::verify(&store, &snapshot)?;
    let driver = driver::named(engine, &snapshot.manifest.requires.driver)?;
    let image = find_image(engine, &machine)?;
    Ok(CloneSource { snapshot, machine, image, driver })
}

/// Layers of a copy's disk.
pub(super) fn disk_layers(snapshot: &Snapshot, driver: &dyn Driver) -> u32 {
    snapshot.manifest.disk_layers + u32::from(driver.capabilities().disk_layers)
}

/// What was asked of the original, but for what must be the copy's own.
pub(super) fn clone_spec(source: &Record, overrides: &CloneOverrides) -> MachineSpec {
    let mut spec = source.spec.clone();
    spec.name.clone_from(&overrides.name);
    spec.hostname = None;
    spec.remove = overrides.remove;
    spec.env.clone_from(&overrides.env);
    spec.ports = overrides.ports.clone().unwrap_or_else(|| {
        let free = |port: &mimeo_net::PortMapping| mimeo_net::PortMapping { host_port: None, ..*port };
        spec.ports.iter().map(free).collect()
    });
    spec
}

fn inherit(record: &mut Record, source: Record, snapshot: &Snapshot, driver: &dyn Driver) {
    record.image = source.image;
    record.boot_method = Some(BOOTED_AS_CLONE.to_owned());
    record.origin = Some(snapshot.manifest.id.clone());
    record.requires = Some(snapshot.manifest.requires.clone());
    record.disk_layers = disk_layers(snapshot, driver);
    record.vm_generation = Some(identity::new_vm_generation());
}

/// The image's filesystem is not in the snapshot.
fn find_image(engine: &Engine, source: &Record) -> Result<Image, StageError> {
    let id = source.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
    engine.images()?.find(&id)?.ok_or(StageError::ImageMissing { image: id })
}
