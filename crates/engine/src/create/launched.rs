//! Stage 4: starts the virtual machine.

use mimeo_agent_protocol::link::Link;
use mimeo_image::blank;
use mimeo_pager::Pages;
use mimeo_setup::Initramfs;
use mimeo_vmm::{Instance, LaunchError, LaunchSpec};

use super::imaged::Imaged;
use super::networked::Networked;
use super::planned::Planned;
use super::running::Vm;
use super::scratch::Scratch;
use super::volumes::attach_volumes;
use crate::accelerator::AcceleratorChoice;
use crate::boot_snapshot::{self, BootSnapshotError, GuestRequest, WarmGuest};
use crate::cause::chain;
use crate::disk_layers::{existing_layers, layer_file_name};
use crate::id::SnapshotId;
use crate::identity;
use crate::launch_spec::{disks, requires, shape};
use crate::machine::{BOOTED_COLD, BOOTED_WARM, Claim, MachineSpec, ProcessIdentity};
use crate::network::without_forwards;
use crate::stage::StageError;
use crate::{Engine, accelerator, agent};

/// A machine whose vCPUs run.
#[derive(Debug)]
pub(super) struct Launched {
    // Dropped in this order: the VMM exits before its disk and its lock are released.
    pub(super) vm: Vm,
    /// The session with the guest, if it was restored from a boot snapshot and has answered already.
    pub(super) link: Option<Link>,
    pub(super) imaged: Imaged,
    /// The accelerator, and what is known about it.
    pub(super) chosen: AcceleratorChoice,
}

impl Networked {
    /// Starts the virtual machine. Undo: dropping the instance kills the VMM, dropping the scratch directory
    /// removes its sockets, and dropping the claim removes the disk.
    pub(super) async fn launch(self, engine: &Engine) -> Result<Launched, StageError> {
        let Self { mut imaged, connection } = self;
        let Planned { claim, kernel, driver, stopwatch } = &mut imaged.planned;
        let scratch = Scratch::create(engine, &claim.record)?;
        ensure_disk(engine, claim)?;
        attach_volumes(engine, claim, driver.as_ref())?;
        let chosen =
            accelerator::choose(engine.home(), claim.record.spec.accelerator, driver.as_ref(), kernel);
        chosen.warn();
        let shape = shape(engine.home(), kernel, &claim.record.spec, chosen.accelerator);
        let network = connection.network(&claim.record);
        let spec = LaunchSpec {
            name: claim.record.id.short().to_owned(),
            disks: disks(&imaged.rootfs, &claim.dir, &claim.record),
            network: if claim.is_for_files() { network.map(without_forwards) } else { network },
            console: claim.dir.join("console.log"),
            ..shape
        };
        let requires = requires(driver.as_ref(), kernel, &spec);
        let request = GuestRequest {
            driver: driver.as_ref(),
            kernel,
            spec: &spec,
            requires: &requires,
            chosen: &chosen,
            machine: &claim.record.spec,
        };
        let started = start_vm(engine, request, cold_reason(&claim.record.spec)).await?;
        let record = &mut claim.record;
        record.vmm = ProcessIdentity::from_pid(started.instance.process().pid);
        record.accelerator = Some(chosen.description());
        record.requires = Some(requires);
        record.boot_method = Some(if started.link.is_some() { BOOTED_WARM } else { BOOTED_COLD }.to_owned());
        record.vm_generation = Some(identity::new_vm_generation());
        record.boot_reason = started.reason;
        record.origin = started.origin;
        if claim.is_new() {
            claim.store()?
        } else {
            claim.store_or_spare()?
        }
        stopwatch.lap("launch");
        let Started { instance, link, divergent_pages, .. } = started;
        let vm = Vm { instance, scratch, connection, divergent_pages };
        Ok(Launched { vm, imaged, link, chosen })
    }
}

/// Creates the writable disk of a new machine. An existing machine has one, of as many layers as there are files: a
/// supervisor that was killed during a snapshot may have added one that the record does not count.
pub(super) fn ensure_disk(engine: &Engine, claim: &mut Claim) -> Result<(), StageError> {
    let layers = existing_layers(&claim.dir);
    if layers > 0 {
        claim.record.disk_layers = layers;
        return Ok(());
    }
    if claim.record.times.started.is_some() {
        return Err(StageError::DiskLost { dir: claim.dir.clone() });
    }
    let writable = claim.dir.join(layer_file_name(0));
    Ok(blank::create_from_template(&engine.home().templates(), &writable, claim.record.spec.disk_bytes)?)
}

/// A virtual machine that was started, and how.
struct Started {
    instance: Box<dyn Instance>,
    link: Option<Link>,
    origin: Option<SnapshotId>,
    divergent_pages: Pages,
    /// Why it booted cold, or was restored without a stencil.
    reason: Option<String>,
}

/// Why the guest is booted instead of restored, if it is to be.
fn cold_reason(spec: &MachineSpec) -> Option<&'static str> {
    match &spec.system {
        _ if spec.cold => Some("asked for with --cold"),
        // A restored guest has looked at other disks: it knows their sizes, and that they have no partitions and no label.
        Some(_) => Some("a whole system reads its disks at the boot"),
        None => None,
    }
}

/// Restores a guest from a boot snapshot. Boots one instead if there is a reason to, or no guest can be restored.
async fn start_vm(
    engine: &Engine,
    request: GuestRequest<'_>,
    cold: Option<&str>,
) -> Result<Started, StageError> {
    let reason = match cold {
        Some(reason) => reason.to_owned(),
        None => match boot_snapshot::start(engine, request).await {
            Ok(WarmGuest { instance, link, snapshot, divergent_pages, missing }) => {
                let origin = Some(snapshot.manifest.id);
                return Ok(Started { instance, link: Some(link), origin, divergent_pages, reason: missing });
            }
            Err(BootSnapshotError::Stage(kvm @ StageError::Kvm { .. })) => return Err(kvm),
            Err(error) => chain(&error),
        },
    };
    let GuestRequest { driver, kernel, spec, chosen, .. } = request;
    let initramfs = Initramfs::ensure(kernel, agent::BYTES)?;
    let spec = LaunchSpec { initramfs: initramfs.path.clone(), ..spec.clone() };
    let launched = driver.launch(&spec).await;
    let instance = launched.map_err(|error| match error {
        LaunchError::Guest { how } if chosen.is_trial() => {
            StageError::Kvm { why: chosen.guest_failed(engine.home(), how) }
        }
        error => error.into(),
    })?;
    let divergent_pages = Pages::default();
    Ok(Started { instance, link: None, origin: None, divergent_pages, reason: Some(reason) })
}
