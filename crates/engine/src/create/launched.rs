//! Stage 4: the virtual machine runs.

use mimeo_image::blank;
use mimeo_vmm::{Accelerator, Disk, DiskFormat, Forward, ForwardProtocol, Instance, LaunchSpec, UserNetwork};

use super::StageError;
use super::imaged::Imaged;
use super::networked::Networked;
use super::planned::Planned;
use super::scratch::Scratch;
use crate::machine::{NetworkRecord, ProcessIdentity};
use crate::setup::{Initramfs, kernel};
use crate::{Engine, Home, accelerator, agent};
use mimeo_net::{Protocol, Subnet};
use mimeo_vmm::accel::kept_tsc_khz;

/// What the guest finds the image's disk by.
pub(super) const IMAGE_SERIAL: &str = "image";
/// What the guest finds the writable layer's disk by.
pub(super) const WRITABLE_SERIAL: &str = "writable";

/// A machine whose processors run.
#[derive(Debug)]
pub(super) struct Launched {
    // Dropped in this order: the machine ends before its disk and its lock go.
    pub(super) instance: Box<dyn Instance>,
    pub(super) imaged: Imaged,
    pub(super) scratch: Scratch,
}

impl Networked {
    /// Starts the virtual machine. Undo: the instance's drop ends it, the
    /// scratch directory's removes its sockets; the disk goes with the claim.
    pub(super) async fn launch(self, engine: &Engine) -> Result<Launched, StageError> {
        let mut imaged = self.imaged;
        let Planned { claim, kernel, driver, clock } = &mut imaged.planned;
        let run = engine.home().machine_run(&claim.record.id);
        let scratch = Scratch::make(run.clone()).map_err(|source| StageError::Io {
            step: "make",
            path: run,
            source,
        })?;
        let chosen = accelerator::choose(engine.home(), claim.record.spec.accelerator)?;
        let initramfs = Initramfs::ensure(kernel, agent::BYTES)?;
        let writable = claim.dir.join("writable.ext4");
        blank::copy(&engine.home().templates(), &writable, claim.record.spec.disk_bytes)?;
        let spec = LaunchSpec {
            name: claim.record.id.short().to_owned(),
            accelerator: chosen.accelerator,
            kernel: kernel.image(),
            initramfs: initramfs.path.clone(),
            command_line: command_line(chosen.accelerator, engine.home()),
            cpus: claim.record.spec.cpus,
            memory_mib: claim.record.spec.memory_mib,
            disks: vec![
                disk(&imaged.image.rootfs, IMAGE_SERIAL, true),
                disk(&writable, WRITABLE_SERIAL, false),
            ],
            network: claim.record.network.as_ref().map(user_network),
            console: claim.dir.join("console.log"),
        };
        let instance = driver.launch(&spec).await?;
        claim.record.vmm = ProcessIdentity::of(instance.process().pid);
        claim.record.accelerator = Some(chosen.told);
        claim.record.boot_method = Some("cold".to_owned());
        claim.store()?;
        clock.lap("launch");
        Ok(Launched { imaged, instance, scratch })
    }
}

fn disk(path: &std::path::Path, serial: &str, read_only: bool) -> Disk {
    Disk { path: path.to_owned(), serial: serial.to_owned(), read_only, format: DiskFormat::Raw }
}

fn command_line(accelerator: Accelerator, home: &Home) -> String {
    match accelerator {
        Accelerator::Kvm => kernel::command_line(false, None),
        Accelerator::Tcg => kernel::command_line(true, kept_tsc_khz(home.run())),
    }
}

fn user_network(network: &NetworkRecord) -> UserNetwork {
    let subnet = network.subnet;
    UserNetwork {
        mac: network.mac.to_string(),
        network: subnet.network(),
        prefix: Subnet::OUTER_PREFIX,
        gateway: subnet.gateway(),
        guest: subnet.guest(),
        dns: subnet.dns(),
        forwards: network
            .ports
            .iter()
            .map(|port| Forward {
                protocol: match port.protocol {
                    Protocol::Tcp => ForwardProtocol::Tcp,
                    Protocol::Udp => ForwardProtocol::Udp,
                },
                host_ip: port.host_ip,
                host_port: port.host_port.unwrap_or_default(),
                guest_port: port.guest_port,
            })
            .collect(),
    }
}
