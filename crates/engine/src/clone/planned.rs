//! Stage 1: reads and verifies the snapshot, and claims an id, a name and a network for the clone.

use std::path::PathBuf;
use std::sync::Arc;

use mimeo_agent_protocol::message::Process;
use mimeo_image::{Image, ImageConfig};
use mimeo_vmm::Driver;

use super::from_disk::refuse_disk_only;
use crate::create::{Stopwatch, process, write_seed};
use crate::disk_layers::layer_file_name;
use crate::id::SnapshotId;
use crate::identity;
use crate::launch_request::{CloneRequest, HoldPolicy};
use crate::machine::{
    BOOTED_AS_CLONE, Claim, CloneOverrides, MachineSpec, Record, RestartPolicy, VolumeDisk,
};
use crate::snapshot::{self, Kind, LoadError, Snapshot};
use crate::stage::StageError;
use crate::{Engine, driver, signal};

/// A clone whose snapshot is verified and whose id, name and network are claimed.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) claim: Claim,
    pub(super) snapshot: Snapshot,
    pub(super) image: CloneImage,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) stopwatch: Stopwatch,
    /// The socket of the page server that serves its memory, if one does.
    pub(super) pager: Option<std::path::PathBuf>,
    /// The restart policy of the machine that was saved.
    pub(super) source_restart: RestartPolicy,
    /// Enough clones start from the same snapshot to be worth a stencil.
    pub(super) is_worth_stencil: bool,
}

/// What a clone's guest has in place of an image's disk, and the image's run configuration.
#[derive(Debug)]
pub(super) struct CloneImage {
    pub(super) rootfs: PathBuf,
    pub(super) config: ImageConfig,
}

impl From<Image> for CloneImage {
    fn from(Image { rootfs, config, .. }: Image) -> Self {
        Self { rootfs, config }
    }
}

/// Loads the snapshot and claims id, name and network. Undo: dropping the claim.
pub(super) fn plan(engine: &Engine, request: &CloneRequest) -> Result<Planned, StageError> {
    let mut stopwatch = Stopwatch::start();
    let CloneSource { snapshot, machine: source, mut image, driver } =
        load_source(engine, &request.snapshot)?;
    let mut spec = clone_spec(&source, &request.overrides);
    spec.stop_signal = Some(signal::stop_signal(&spec, &image.config)?);
    let process = process_of_clone(&spec, &source, &image)?;
    let source_restart = source.spec.restart;
    let claim = engine.registry().claim_as(spec, request.overrides.id.clone(), |record| {
        inherit(record, source, &snapshot, driver.as_ref());
        record.process = process;
        record.serve.clone_from(&request.serve);
        record.waiting = request.hold == HoldPolicy::Pool;
    })?;
    if let Some(system) = &claim.record.spec.system {
        image.rootfs = write_seed(&claim.dir, &claim.record, system)?;
    }
    stopwatch.lap("plan");
    Ok(Planned {
        claim,
        snapshot,
        image,
        driver,
        stopwatch,
        pager: request.pager.clone(),
        source_restart,
        is_worth_stencil: request.is_worth_stencil(),
    })
}

/// The container's process, which runs already: it has the image's environment and the clone's own, not that of
/// its source, and the privileges that it was started with.
fn process_of_clone(spec: &MachineSpec, source: &Record, image: &CloneImage) -> Result<Process, StageError> {
    if source.system.is_some() {
        return Ok(source.process.clone());
    }
    let process = process::container_process(spec, &image.config)?;
    Ok(Process { privileges: source.process.privileges.clone(), ..process })
}

/// A snapshot of a machine, and what else its clones need.
pub(super) struct CloneSource {
    pub(super) snapshot: Snapshot,
    /// The record of the machine that was saved.
    pub(super) machine: Record,
    pub(super) image: CloneImage,
    pub(super) driver: Arc<dyn Driver>,
}

/// Reads and verifies a snapshot, and finds the image and the driver that its clones need.
pub(super) fn load_source(engine: &Engine, snapshot: &SnapshotId) -> Result<CloneSource, StageError> {
    let source = load_disk(engine, snapshot)?;
    refuse_disk_only(&source.snapshot)?;
    Ok(source)
}

/// As [`load_source`], also for a snapshot without memory.
pub(super) fn load_disk(engine: &Engine, snapshot: &SnapshotId) -> Result<CloneSource, StageError> {
    let store = engine.snapshots();
    let snapshot = store.read(snapshot)?;
    let Some(machine) = snapshot.manifest.machine.clone().filter(|_| snapshot.manifest.kind != Kind::Runtime)
    else {
        return Err(LoadError::BootSnapshot.into());
    };
    snapshot::verify(&store, &snapshot)?;
    let driver = driver::find(engine, &snapshot.manifest.requires.driver)?;
    let image = match &machine.system {
        // Each clone has a seed of its own in its place.
        Some(_) => {
            CloneImage { rootfs: snapshot.dir.join(layer_file_name(0)), config: ImageConfig::default() }
        }
        None => find_image(engine, &machine)?.into(),
    };
    Ok(CloneSource { snapshot, machine, image, driver })
}

/// Notes the disks of a clone in its record: its own, and its copies of its source's volumes.
pub(super) fn inherit_disks(record: &mut Record, source: &Record, driver: &dyn Driver) {
    let added = u32::from(driver.capabilities().disk_layers);
    record.disk_layers = source.disk_layers + added;
    let own = |volume: &VolumeDisk| {
        let layers = volume.layers + if volume.read_only { 0 } else { added };
        VolumeDisk { own: true, layers, ..volume.clone() }
    };
    record.volumes = source.volumes.iter().map(own).collect();
}

/// The clone's spec: the source's, with the overrides in place of what must be the clone's own.
pub(super) fn clone_spec(source: &Record, overrides: &CloneOverrides) -> MachineSpec {
    let mut spec = source.spec.clone();
    spec.name.clone_from(&overrides.name);
    // Each machine has its own.
    (spec.hostname, spec.mac, spec.bridge_ip) = (None, None, None);
    spec.remove = overrides.remove;
    if overrides.remove {
        spec.restart = RestartPolicy::No;
    }
    spec.env.clone_from(&overrides.env);
    if let Some(labels) = &overrides.labels {
        spec.labels.clone_from(labels);
    }
    spec.ports = overrides.ports.clone().unwrap_or_else(|| {
        let without_host_port =
            |port: &mimeo_net::PortMapping| mimeo_net::PortMapping { host_port: None, ..*port };
        spec.ports.iter().map(without_host_port).collect()
    });
    spec
}

fn inherit(record: &mut Record, source: Record, snapshot: &Snapshot, driver: &dyn Driver) {
    record.source_env = source.requested_env();
    inherit_disks(record, &source, driver);
    if let (Some(_), Some(own), Some(network)) = (&source.system, &mut record.network, &source.network) {
        // Its network is its own, and what it has configured itself stays right.
        (own.subnet, own.ip, own.gateway, own.mac) =
            (network.subnet, network.ip, network.gateway, network.mac);
    }
    record.image = source.image;
    record.system = source.system;
    record.boot_method = Some(BOOTED_AS_CLONE.to_owned());
    record.origin = Some(snapshot.manifest.id.clone());
    record.requires = Some(snapshot.manifest.requires.clone());
    record.vm_generation = Some(identity::new_vm_generation());
}

/// Finds the image: its filesystem is not part of the snapshot.
fn find_image(engine: &Engine, source: &Record) -> Result<Image, StageError> {
    let id = source.image.as_ref().map(|image| image.id.clone()).unwrap_or_default();
    engine.images()?.find(&id)?.ok_or(StageError::ImageMissing { image: id })
}
