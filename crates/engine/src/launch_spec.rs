//! Builds a machine's launch spec for the driver: devices, kernel, network.

use std::path::{Path, PathBuf};

use mimeo_net::{PortMapping, Protocol, Subnet};
use mimeo_setup::{Kernel, kernel};
use mimeo_vmm::accel::recorded_tsc_khz;
use mimeo_vmm::{Accelerator, Disk, DiskFormat, Driver, Forward, ForwardProtocol, LaunchSpec, UserNetwork};

use crate::machine::{MachineSpec, NetworkRecord, Requirements};
use crate::{Home, agent, snapshot};

/// Serial number by which the guest finds the image's disk.
pub(crate) const IMAGE_SERIAL: &str = "image";
/// Serial number by which the guest finds the writable layer's disk.
pub(crate) const WRITABLE_SERIAL: &str = "writable";

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
        disks: disks(Path::new(""), Path::new(""), 1),
        network: None,
        console: PathBuf::new(),
    }
}

/// The image's disk and the machine's writable disk, in the order in which every machine has them. The writable
/// disk is the top one of `layers` files in `dir`, each an overlay over the one below.
pub(crate) fn disks(image: &Path, dir: &Path, layers: u32) -> Vec<Disk> {
    let writable = dir.join(snapshot::layer_file_name(layers.saturating_sub(1)));
    let format = if layers > 1 { DiskFormat::Qcow2 } else { DiskFormat::Raw };
    vec![disk(image, IMAGE_SERIAL, true, DiskFormat::Raw), disk(&writable, WRITABLE_SERIAL, false, format)]
}

fn disk(path: &Path, serial: &str, read_only: bool, format: DiskFormat) -> Disk {
    Disk { path: path.to_owned(), serial: serial.to_owned(), read_only, format }
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
