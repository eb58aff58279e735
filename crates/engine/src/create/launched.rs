//! Stage 4: the virtual machine runs.

use std::path::{Path, PathBuf};

use mimeo_agent_protocol::link::Link;
use mimeo_image::blank;
use mimeo_pager::Pages;
use mimeo_vmm::{
    Accelerator, Disk, DiskFormat, Driver, Forward, ForwardProtocol, Instance, LaunchError, LaunchSpec,
    UserNetwork,
};

use super::StageError;
use super::imaged::Imaged;
use super::networked::Networked;
use super::planned::Planned;
use super::scratch::Scratch;
use crate::accelerator::Chosen;
use crate::cause::chain;
use crate::id::SnapshotId;
use crate::identity;
use crate::machine::{MachineSpec, NetworkRecord, ProcessIdentity, Requirements};
use crate::network::Connection;
use crate::runtime::{self, RuntimeError, Wanted, Warm};
use crate::snapshot;
use crate::{Engine, Home, accelerator, agent};
use mimeo_net::{PortMapping, Protocol, Subnet};
use mimeo_setup::{Initramfs, Kernel, kernel};
use mimeo_vmm::accel::kept_tsc_khz;

/// The guest had booted before, and was copied.
pub(super) const WARM: &str = "warm";
/// The guest booted for this machine.
const COLD: &str = "cold";
/// What the guest finds the image's disk by.
pub(crate) const IMAGE_SERIAL: &str = "image";
/// What the guest finds the writable layer's disk by.
pub(crate) const WRITABLE_SERIAL: &str = "writable";

/// A machine whose processors run.
#[derive(Debug)]
pub(super) struct Launched {
    // Dropped in this order: the machine ends before its disk and its lock go.
    pub(super) instance: Box<dyn Instance>,
    /// The guest, when it had booted before and answers already.
    pub(super) link: Option<Link>,
    pub(super) imaged: Imaged,
    pub(super) scratch: Scratch,
    pub(super) connection: Connection,
    /// Pages in which the memory that it began with is not its origin's.
    pub(super) besides: Pages,
    /// What runs its instructions, and what is known of that.
    pub(super) chosen: Chosen,
}

impl Networked {
    /// Starts the virtual machine. Undo: the instance's drop ends it, the
    /// scratch directory's removes its sockets; the disk goes with the claim.
    pub(super) async fn launch(self, engine: &Engine) -> Result<Launched, StageError> {
        let Self { mut imaged, connection } = self;
        let Planned { claim, kernel, driver, clock } = &mut imaged.planned;
        let scratch = Scratch::of(engine, &claim.record)?;
        let writable = claim.dir.join(snapshot::disk(0));
        blank::copy(&engine.home().templates(), &writable, claim.record.spec.disk_bytes)?;
        let chosen =
            accelerator::choose(engine.home(), claim.record.spec.accelerator, driver.as_ref(), kernel);
        chosen.warn();
        let shape = shape(engine.home(), kernel, &claim.record.spec, chosen.accelerator);
        let spec = LaunchSpec {
            name: claim.record.id.short().to_owned(),
            disks: disks(&imaged.image.rootfs, &writable),
            network: connection.network(&claim.record),
            console: claim.dir.join("console.log"),
            ..shape
        };
        let requires = requires(driver.as_ref(), kernel, &spec);
        let wanted = Wanted {
            driver: driver.as_ref(),
            kernel,
            spec: &spec,
            requires: &requires,
            chosen: &chosen,
            machine: &claim.record.spec,
        };
        let started = start(engine, wanted, claim.record.spec.cold).await?;
        let record = &mut claim.record;
        record.vmm = ProcessIdentity::of(started.instance.process().pid);
        record.accelerator = Some(chosen.description());
        record.requires = Some(requires);
        record.boot_method = Some(if started.link.is_some() { WARM } else { COLD }.to_owned());
        record.generation = Some(identity::generation());
        record.boot_reason = started.reason;
        record.origin = started.origin;
        claim.store()?;
        clock.lap("launch");
        let Started { instance, link, besides, .. } = started;
        Ok(Launched { imaged, instance, link, scratch, connection, besides, chosen })
    }
}

/// A machine of this shape, without what is one machine's own.
pub(crate) fn shape(
    home: &Home,
    kernel: &Kernel,
    asked: &MachineSpec,
    accelerator: Accelerator,
) -> LaunchSpec {
    LaunchSpec {
        name: String::new(),
        accelerator,
        kernel: kernel.image(),
        initramfs: PathBuf::new(),
        command_line: command_line(accelerator, home),
        cpus: asked.cpus,
        memory_mib: asked.memory_mib,
        disks: disks(Path::new(""), Path::new("")),
        network: None,
        console: PathBuf::new(),
    }
}

/// The image's and the machine's own, in the order in which every machine has them.
fn disks(image: &Path, writable: &Path) -> Vec<Disk> {
    vec![disk(image, IMAGE_SERIAL, true), disk(writable, WRITABLE_SERIAL, false)]
}

/// A virtual machine, and how it came to run.
struct Started {
    instance: Box<dyn Instance>,
    link: Option<Link>,
    origin: Option<SnapshotId>,
    besides: Pages,
    /// Why it was booted cold, or was restored without a stencil.
    reason: Option<String>,
}

/// Copies a guest that has booted; boots one when that was asked for, or when
/// there is none to copy, whatever the reason.
async fn start(engine: &Engine, wanted: Wanted<'_>, cold: bool) -> Result<Started, StageError> {
    let reason = if cold {
        "asked for with --cold".to_owned()
    } else {
        match runtime::start(engine, wanted).await {
            Ok(Warm { instance, link, snapshot, besides, missing }) => {
                let origin = Some(snapshot.manifest.id);
                return Ok(Started { instance, link: Some(link), origin, besides, reason: missing });
            }
            Err(RuntimeError::Kvm { why }) => return Err(StageError::Kvm { why }),
            Err(error) => chain(&error),
        }
    };
    let Wanted { driver, kernel, spec, chosen, .. } = wanted;
    let initramfs = Initramfs::ensure(kernel, agent::BYTES)?;
    let spec = LaunchSpec { initramfs: initramfs.path.clone(), ..spec.clone() };
    let launched = driver.launch(&spec).await;
    let instance = launched.map_err(|error| match error {
        LaunchError::Guest { how } if chosen.is_trial() => {
            StageError::Kvm { why: chosen.guest_failed(engine.home(), how) }
        }
        error => error.into(),
    })?;
    let besides = Pages::default();
    Ok(Started { instance, link: None, origin: None, besides, reason: Some(reason) })
}

/// What a copy of this machine will need; the monitor's version is known when one is made.
pub(crate) fn requires(driver: &dyn Driver, kernel: &Kernel, spec: &LaunchSpec) -> Requirements {
    Requirements {
        driver: driver.name().to_owned(),
        version: String::new(),
        shape: driver.shape(spec),
        accelerator: spec.accelerator,
        cpu: snapshot::cpu(),
        kernel: kernel.manifest.name.clone(),
        kernel_sha256: kernel.manifest.image.sha256.clone(),
        agent_blake3: agent::digest().to_owned(),
        protocol: mimeo_agent_protocol::PROTOCOL,
        memory_mib: spec.memory_mib,
    }
}

fn disk(path: &Path, serial: &str, read_only: bool) -> Disk {
    Disk { path: path.to_owned(), serial: serial.to_owned(), read_only, format: DiskFormat::Raw }
}

fn command_line(accelerator: Accelerator, home: &Home) -> String {
    match accelerator {
        Accelerator::Kvm => kernel::command_line(false, None),
        Accelerator::Tcg => kernel::command_line(true, kept_tsc_khz(home.run())),
    }
}

pub(crate) fn user_network(network: &NetworkRecord) -> UserNetwork {
    let subnet = network.subnet;
    UserNetwork {
        mac: network.mac.to_string(),
        network: subnet.network(),
        prefix: Subnet::OUTER_PREFIX,
        gateway: subnet.gateway(),
        guest: subnet.guest(),
        dns: subnet.dns(),
        forwards: network.ports.iter().map(forward).collect(),
    }
}

/// A published port whose place on the host is settled.
pub(crate) fn forward(port: &PortMapping) -> Forward {
    Forward {
        protocol: match port.protocol {
            Protocol::Tcp => ForwardProtocol::Tcp,
            Protocol::Udp => ForwardProtocol::Udp,
        },
        host_ip: port.host_ip,
        host_port: port.host_port.unwrap_or_default(),
        guest_port: port.guest_port,
    }
}
