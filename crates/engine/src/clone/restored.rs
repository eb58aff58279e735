//! Stage 2: restores the virtual machine, from a stencil or the saved state. Its vCPUs stay paused.

use std::path::{Path, PathBuf};

use mimeo_image::disk_copy;
use mimeo_image::overlay::{self, Backing, BackingFormat};
use mimeo_pager::Pages;
use mimeo_vmm::{Driver, Instance, LaunchSpec, SavedMachine};

use super::planned::{self, CloneSource, Planned};
use super::warm_up::CloneWarmUp;
use crate::cause::chain;
use crate::create::{Scratch, Vm};
use crate::io_error::IoContext;
use crate::launch_request::Retry;
use crate::launch_spec::disks;
use crate::machine::{Claim, ProcessIdentity, Record};
use crate::network::{self, Connection, without_forwards};
use crate::snapshot::{self, HostProfile, STATE, Snapshot, Snapshots};
use crate::stage::StageError;
use crate::stencil::{self, BuildPolicy, Lookup, Stencil};
use crate::{Engine, accelerator, working_set};

/// A clone whose vCPUs are paused and whose guest still has the identity of its source.
#[derive(Debug)]
pub(super) struct Restored {
    // Dropped in this order: the VMM exits before its disk and its lock are released.
    pub(super) vm: Vm,
    pub(super) planned: Planned,
}

impl Planned {
    /// Gives the clone its disk and starts the VMM. Undo: dropping the instance kills the VMM, and dropping the
    /// claim removes the disk.
    pub(super) async fn restore(mut self, engine: &Engine) -> Result<Restored, StageError> {
        let scratch = Scratch::create(engine, &self.claim.record)?;
        let connection = Connection::attach(self.driver.as_ref(), &mut self.claim.record, &self.claim.dir)?;
        self.stopwatch.lap("network");
        let spec = self.launch_spec(engine, &connection)?;
        let store = engine.snapshots();
        let memory = snapshot::flatten_memory(&store, &self.snapshot)?;
        let Lookup { stencil, mut missing } = self.find_stencil(&store, &spec, &memory).await;
        let mapped = stencil.as_ref().map_or(&memory, |stencil| &stencil.process.memory);
        working_set::read_ahead(&store, &self.snapshot, mapped);
        self.stopwatch.lap("memory");
        give_disk(self.driver.as_ref(), &self.snapshot, &self.claim)?;
        self.stopwatch.lap("disk");
        let (instance, divergent_pages) = self.start_vmm(&spec, memory, stencil, &mut missing).await?;
        snapshot::check_version(&self.snapshot.manifest.requires, &instance.version().await?)?;
        self.claim.record.vmm = ProcessIdentity::from_pid(instance.process().pid);
        self.claim.record.boot_reason = missing;
        self.stopwatch.lap("restore");
        let vm = Vm { instance, scratch, connection, divergent_pages };
        Ok(Restored { vm, planned: self })
    }

    async fn find_stencil(&self, store: &Snapshots, spec: &LaunchSpec, memory: &Path) -> Lookup {
        if !self.is_worth_stencil {
            return Lookup::default();
        }
        let (driver, snapshot) = (self.driver.as_ref(), &self.snapshot);
        let request = stencil::StencilRequest { driver, snapshot, memory, spec };
        let policy = BuildPolicy::UnlessFailed(Retry::Stencil { snapshot: snapshot.manifest.id.clone() });
        stencil::find_or_build(store, request, policy, CloneWarmUp::new(snapshot, spec, &self.claim.record))
            .await
    }

    /// Restores the VMM from the stencil or, without one, from the saved state.
    async fn start_vmm(
        &self,
        spec: &LaunchSpec,
        memory: PathBuf,
        stencil: Option<Stencil>,
        missing: &mut Option<String>,
    ) -> Result<(Box<dyn Instance>, Pages), StageError> {
        if let Some(stencil) = stencil {
            let layers = self.snapshot.manifest.disk_layers;
            let layer = self.claim.dir.join(snapshot::layer_file_name(layers));
            match std::fs::copy(stencil.dir.join(snapshot::layer_file_name(layers)), &layer) {
                Ok(_) => match self.driver.restore_process(spec, &stencil.process).await {
                    Ok(instance) => {
                        stencil.record_success();
                        return Ok((instance, stencil.divergent_pages));
                    }
                    Err(error) => *missing = Some(stencil.disable_after(error)?),
                },
                // The stencil may have been removed with its snapshot in the meantime.
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(
                        component = "stencil",
                        error,
                        "stencil unavailable, restoring from the saved state"
                    );
                    *missing = Some(format!("cannot copy the stencil's disk: {error}"));
                }
            }
            // The writes of the stencil's guest match the stencil's memory, not the snapshot's.
            std::fs::remove_file(&layer).at("remove", &layer)?;
            add_layer_file(&self.claim.dir, layers, self.claim.record.spec.disk_bytes)?;
        }
        let saved = SavedMachine { state: self.snapshot.dir.join(STATE), memory, pager: self.pager.clone() };
        Ok((self.driver.restore(spec, &saved).await?, Pages::default()))
    }

    fn launch_spec(&mut self, engine: &Engine, connection: &Connection) -> Result<LaunchSpec, StageError> {
        let record = &self.claim.record;
        let spec = LaunchSpec {
            name: record.id.short().to_owned(),
            disks: disks(&self.image.rootfs, &self.claim.dir, record.disk_layers),
            // Ports are published once the guest runs: if one is taken in the meantime, another is chosen then.
            network: connection.network(record).map(without_forwards),
            console: self.claim.dir.join("console.log"),
            ..shape(engine, &self.snapshot, record)
        };
        check_compatibility(self.driver.as_ref(), &self.snapshot, &spec)?;
        self.claim.record.accelerator = Some(spec.accelerator.to_string());
        Ok(spec)
    }
}

/// The launch spec of a clone of this machine, without disks, network and console.
fn shape(engine: &Engine, snapshot: &Snapshot, record: &Record) -> LaunchSpec {
    LaunchSpec {
        name: String::new(),
        accelerator: accelerator::for_snapshot(engine.home(), snapshot.manifest.requires.accelerator),
        kernel: PathBuf::new(),
        initramfs: PathBuf::new(),
        command_line: String::new(),
        cpus: record.spec.cpus,
        memory_mib: record.spec.memory_mib,
        disks: Vec::new(),
        network: None,
        console: PathBuf::new(),
    }
}

/// Refuses a snapshot that cannot be restored on this host.
fn check_compatibility(
    driver: &dyn Driver,
    snapshot: &Snapshot,
    spec: &LaunchSpec,
) -> Result<(), StageError> {
    let (driver, shape) = (driver.name().to_owned(), driver.shape(spec));
    let host = HostProfile { driver, shape, accelerator: spec.accelerator };
    Ok(snapshot::check_compatibility(&snapshot.manifest.requires, &host)?)
}

/// Builds the stencil that clones of a snapshot are restored from, regardless of earlier failures.
pub(super) async fn build_stencil(engine: &Engine, source: CloneSource) -> Result<(), StageError> {
    let CloneSource { snapshot, machine, image, driver } = source;
    let record = Record { disk_layers: planned::disk_layers(&snapshot, driver.as_ref()), ..machine };
    let spec = LaunchSpec {
        disks: disks(&image.rootfs, Path::new(""), record.disk_layers),
        network: record.network.as_ref().map(|_| network::placeholder_user_network()).transpose()?,
        ..shape(engine, &snapshot, &record)
    };
    check_compatibility(driver.as_ref(), &snapshot, &spec)?;
    let memory = snapshot::flatten_memory(&engine.snapshots(), &snapshot)?;
    let request = stencil::StencilRequest {
        driver: driver.as_ref(),
        snapshot: &snapshot,
        memory: &memory,
        spec: &spec,
    };
    let warm_up = CloneWarmUp::new(&snapshot, &spec, &record);
    match stencil::find_or_build(&engine.snapshots(), request, BuildPolicy::Always, warm_up).await.missing {
        Some(why) => Err(StageError::Stencil { why }),
        None => Ok(()),
    }
}

/// Gives a clone a disk of its own with the content of the snapshot's.
pub(super) fn give_disk(driver: &dyn Driver, snapshot: &Snapshot, claim: &Claim) -> Result<(), StageError> {
    match driver.capabilities().disk_layers {
        true => link_disk_layers(snapshot, &claim.dir, claim.record.spec.disk_bytes),
        false => copy_disk(snapshot, &claim.dir),
    }
}

/// Hard-links the snapshot's disk layers into `dir` and puts an empty one over them. The clone keeps its disk even
/// if the snapshot is removed.
pub(super) fn link_disk_layers(snapshot: &Snapshot, dir: &Path, bytes: u64) -> Result<(), StageError> {
    let layers = snapshot.manifest.disk_layers;
    for name in (0..layers).map(snapshot::layer_file_name) {
        let (from, to) = (snapshot.dir.join(&name), dir.join(&name));
        std::fs::hard_link(&from, to).at("link", &from)?;
    }
    add_layer_file(dir, layers, bytes)
}

/// Copies the snapshot's disk, for drivers without support for layers.
fn copy_disk(snapshot: &Snapshot, dir: &Path) -> Result<(), StageError> {
    let name = snapshot::layer_file_name(0);
    Ok(disk_copy::copy(&snapshot.dir.join(&name), &dir.join(&name))?)
}

/// Creates an empty layer above `below` others.
pub(crate) fn add_layer_file(dir: &Path, below: u32, bytes: u64) -> Result<(), StageError> {
    let name = snapshot::layer_file_name(below.saturating_sub(1));
    let format = if below > 1 { BackingFormat::Qcow2 } else { BackingFormat::Raw };
    Ok(overlay::create(&dir.join(snapshot::layer_file_name(below)), &Backing { name: &name, format }, bytes)?)
}
