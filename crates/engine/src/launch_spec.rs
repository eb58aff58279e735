//! Builds a machine's launch spec for the driver: devices, kernel, network.

use std::path::{Path, PathBuf};

use mimeo_net::{PortMapping, Protocol, Subnet};
use mimeo_setup::{Kernel, kernel};
use mimeo_vmm::accel::recorded_tsc_khz;
use mimeo_vmm::{Accelerator, Disk, DiskFormat, Driver, Forward, ForwardProtocol, LaunchSpec, UserNetwork};

use crate::machine::{
    IMAGE_SERIAL, MachineDisk, MachineSpec, NetworkRecord, Record, Requirements, WRITABLE_SERIAL, image_disk,
    machine_disks, named_volumes, volume_serial,
};
use crate::{Home, agent, snapshot};

/// The launch spec of machines of this shape, without the parts that belong to a single machine.
pub(crate) fn shape(
    home: &Home,
    kernel: &Kernel,
    spec: &MachineSpec,
    accelerator: Accelerator,
) -> LaunchSpec {
    LaunchSpec {
        name: String::new(),
        accelerator,
        kernel: kernel.image(),
        initramfs: PathBuf::new(),
        command_line: command_line(accelerator, home),
        cpus: spec.cpus,
        memory_mib: spec.memory_mib,
        disks: shape_disks(spec),
        network: None,
        console: PathBuf::new(),
    }
}

/// The image's disk, the machine's own and those of its named volumes, in the order in which every machine has them.
/// `dir` is the machine's directory.
pub(crate) fn disks(image: &Path, dir: &Path, record: &Record) -> Vec<Disk> {
    let own = machine_disks(dir, record);
    std::iter::once(image_disk(image)).chain(own.iter().map(MachineDisk::launched)).collect()
}

/// Disks of which only the order, the serial numbers and the access matter.
fn shape_disks(spec: &MachineSpec) -> Vec<Disk> {
    let disk = |serial: String, read_only| Disk {
        path: PathBuf::new(),
        serial,
        read_only,
        format: DiskFormat::Raw,
        durable: false,
    };
    let volumes = named_volumes(spec).into_iter().enumerate();
    let volumes = volumes.map(|(index, (_, read_only))| disk(volume_serial(index), read_only));
    let own = [disk(IMAGE_SERIAL.to_owned(), true), disk(WRITABLE_SERIAL.to_owned(), false)];
    own.into_iter().chain(volumes).collect()
}

/// What a clone of this machine will need. The VMM's version is added when a snapshot is taken.
pub(crate) fn requires(driver: &dyn Driver, kernel: &Kernel, spec: &LaunchSpec) -> Requirements {
    Requirements {
        driver: driver.name().to_owned(),
        version: String::new(),
        shape: driver.shape(spec),
        accelerator: spec.accelerator,
        cpu: snapshot::cpu_model(),
        kernel: kernel.manifest.name.clone(),
        kernel_sha256: kernel.manifest.image.sha256.clone(),
        agent_blake3: agent::digest().to_owned(),
        protocol: mimeo_agent_protocol::PROTOCOL,
        memory_mib: spec.memory_mib,
    }
}

fn command_line(accelerator: Accelerator, home: &Home) -> String {
    match accelerator {
        Accelerator::Kvm => kernel::command_line(false, None),
        Accelerator::Tcg => kernel::command_line(true, recorded_tsc_khz(home.run())),
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

/// The forward of a published port whose host port is chosen.
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
