//! Stage 2: restores the virtual machine, from a stencil or the saved state. Its vCPUs stay paused.

use std::path::{Path, PathBuf};

use mimeo_image::disk_copy;
use mimeo_pager::Pages;
use mimeo_vmm::{Driver, Instance, LaunchSpec, SavedMachine};

use super::planned::{self, CloneSource, Planned};
use super::warm_up::CloneWarmUp;
use crate::cause::chain;
use crate::create::{Scratch, Vm};
use crate::disk_layers::{add_layer_file, layer_file_name, link_layers};
use crate::io_error::IoContext;
use crate::launch_request::Retry;
use crate::launch_spec::disks;
use crate::machine::{Claim, MachineDisk, ProcessIdentity, Record, machine_disks};
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
        give_disks(self.driver.as_ref(), &self.snapshot, &self.claim)?;
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
        let warm_up = CloneWarmUp::new(snapshot, spec, &self.claim.record);
        stencil::find_or_build(store, request, policy, warm_up).await
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
            let layers = written_layers(&self.claim);
            match layers.iter().try_for_each(|layer| layer.copy_from(&stencil.dir)) {
                Ok(()) => match self.driver.restore_process(spec, &stencil.process).await {
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
            layers.iter().try_for_each(WrittenLayer::clear)?;
        }
        let saved = SavedMachine { state: self.snapshot.dir.join(STATE), memory, pager: self.pager.clone() };
        Ok((self.driver.restore(spec, &saved).await?, Pages::default()))
    }

    fn launch_spec(&mut self, engine: &Engine, connection: &Connection) -> Result<LaunchSpec, StageError> {
        let record = &self.claim.record;
        let spec = LaunchSpec {
            name: record.id.short().to_owned(),
            disks: disks(&self.image.rootfs, &self.claim.dir, record),
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
    let mut record = machine.clone();
    planned::inherit_disks(&mut record, &machine, driver.as_ref());
    let spec = LaunchSpec {
        disks: disks(&image.rootfs, Path::new(""), &record),
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

/// Gives a clone disks of its own with the content of the snapshot's.
pub(super) fn give_disks(driver: &dyn Driver, snapshot: &Snapshot, claim: &Claim) -> Result<(), StageError> {
    for disk in machine_disks(&claim.dir, &claim.record) {
        let from = snapshot.dir.join(&disk.saved_dir);
        create_dir(&disk.dir)?;
        match driver.capabilities().disk_layers {
            true => link_disk(&from, &disk)?,
            // A driver without layers gets a copy.
            false => disk_copy::copy(&from.join(layer_file_name(0)), &disk.layer(0))?,
        }
    }
    Ok(())
}

/// Hard-links the layers of a snapshot's disk in `from`, and puts an empty one over them if the disk is written. The
/// clone keeps its disk even if the snapshot is removed.
pub(super) fn link_disk(from: &Path, disk: &MachineDisk) -> Result<(), StageError> {
    create_dir(&disk.dir)?;
    if disk.read_only {
        return Ok(link_layers(from, &disk.dir, disk.layers)?);
    }
    let below = disk.layers - 1;
    link_layers(from, &disk.dir, below)?;
    Ok(add_layer_file(&disk.dir, below, disk.bytes)?)
}

fn create_dir(dir: &Path) -> Result<(), StageError> {
    Ok(std::fs::create_dir_all(dir).at("create", dir)?)
}

/// The layer of a clone's disk that the clone writes.
struct WrittenLayer {
    disk: MachineDisk,
    file: PathBuf,
}

/// The layers that a clone writes, of all its disks.
fn written_layers(claim: &Claim) -> Vec<WrittenLayer> {
    let disks = machine_disks(&claim.dir, &claim.record).into_iter().filter(|disk| !disk.read_only);
    disks.map(|disk| WrittenLayer { file: disk.layer(disk.layers - 1), disk }).collect()
}

impl WrittenLayer {
    /// Replaces the layer by that of a stencil.
    fn copy_from(&self, stencil: &Path) -> std::io::Result<()> {
        let theirs = self.disk.moved_to(stencil);
        std::fs::copy(theirs.layer(theirs.layers - 1), &self.file).map(drop)
    }

    /// Makes the layer empty again.
    fn clear(&self) -> Result<(), StageError> {
        std::fs::remove_file(&self.file).at("remove", &self.file)?;
        Ok(add_layer_file(&self.disk.dir, self.disk.layers - 1, self.disk.bytes)?)
    }
}
