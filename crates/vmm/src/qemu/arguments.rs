//! QEMU's command line.

use std::ffi::OsString;
use std::path::Path;

use super::{FIRMWARE, LINK_NAME};
use crate::{Accelerator, Disk, DiskFormat, Forward, LaunchSpec, Network, UserNetwork};

/// Numbers of the descriptors that QEMU inherits.
pub(super) const LINK_FD: i32 = 3;
pub(super) const QMP_FD: i32 = 4;
pub(super) const STATE_FD: i32 = 5;
/// Far above the numbers that a process allocates itself: a restored process has those open already.
pub(super) const TAP_FD: i32 = 200;

/// Size of the translation buffer in MiB: smaller ones are flushed too often while a guest boots.
const BOOT_BUFFER_MIB: u32 = 64;
/// The same for a guest that has booted. Half of it is what a stencil's warm-up runs have translated, and is shared by
/// its machines until the buffer is full: then QEMU discards everything and translates it again, for each machine.
const CLONE_BUFFER_MIB: u32 = 64;

/// What a machine starts from.
#[derive(Debug, Clone, Copy)]
pub(super) enum StartMode<'a> {
    /// The kernel.
    Boot,
    /// The memory in this file, and the device state in [`STATE_FD`].
    Saved(&'a Path),
}

/// QEMU's arguments for a machine.
pub(super) fn arguments(spec: &LaunchSpec, mode: StartMode<'_>) -> Vec<OsString> {
    let mut args = machine_arguments(spec);
    args.extend(match mode {
        StartMode::Boot => boot_arguments(spec),
        StartMode::Saved(memory) => restore_arguments(spec, memory),
    });
    let buffer = if matches!(mode, StartMode::Boot) { BOOT_BUFFER_MIB } else { CLONE_BUFFER_MIB };
    args.extend(words(&["-accel", &accelerator_option(spec.accelerator, buffer)]));
    args.extend(channel_arguments());
    for (index, disk) in spec.disks.iter().enumerate() {
        args.extend(disk_arguments(index, disk, spec.directory()));
    }
    if let Some(network) = &spec.network {
        args.extend(network_arguments(network));
    }
    args
}

/// A saved state holds neither a description of itself nor the machine's settings: compatibility is
/// checked before a load.
const MACHINE_TYPE: &str = "microvm,acpi=on,pit=off,pic=off,rtc=on,x-option-roms=off,isa-serial=on,\
                       memory-backend=ram,suppress-vmdesc=on";
const MIGRATION_SETTINGS: &str = "migration.send-configuration=off";

fn machine_arguments(spec: &LaunchSpec) -> Vec<OsString> {
    let mut args = words(&[
        // Devices that our guests do not use cost time to create and to probe.
        "-M",
        MACHINE_TYPE,
        "-bios",
        FIRMWARE,
        "-cpu",
        cpu_model(spec.accelerator),
        "-smp",
        &spec.cpus.to_string(),
        "-m",
        &format!("{}M", spec.memory_mib),
        "-global",
        MIGRATION_SETTINGS,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        // The host's generator: one inside the process would give the same numbers in all processes that are
        // restored from it.
        "-object",
        "rng-random,id=rng,filename=/dev/urandom",
        "-device",
        "virtio-rng-device,rng=rng",
    ]);
    args.push("-name".into());
    args.push(format!("mimeo-{}", spec.name).into());
    args
}

/// The memory is a memfd, so that it can be found in the process by name.
fn boot_arguments(spec: &LaunchSpec) -> Vec<OsString> {
    let memory = format!("memory-backend-memfd,id=ram,size={}M,share=on", spec.memory_mib);
    let mut args = words(&["-append", &spec.command_line, "-object", &memory]);
    args.extend(["-kernel".into(), spec.kernel.clone().into_os_string()]);
    args.extend(["-initrd".into(), spec.initramfs.clone().into_os_string()]);
    args
}

/// Pages that the guest does not write are those of the file, shared with all other processes that map it.
fn restore_arguments(spec: &LaunchSpec, memory: &Path) -> Vec<OsString> {
    let mut object =
        OsString::from(format!("memory-backend-file,id=ram,size={}M,share=off,mem-path=", spec.memory_mib));
    object.push(escape(memory));
    let mut args = words(&["-S", "-incoming", &format!("fd:{STATE_FD}"), "-object"]);
    args.push(object);
    args
}

/// What a saved state depends on.
pub(super) fn shape(spec: &LaunchSpec) -> String {
    let disks: Vec<_> = spec.disks.iter().map(|disk| format!("{}:{}", disk.serial, disk.read_only)).collect();
    let mut words = machine_arguments(&LaunchSpec { name: String::new(), ..spec.clone() });
    words.extend(channel_arguments());
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    format!("{} disks {} network {}", words.join(" "), disks.join(","), spec.network.is_some())
}

fn accelerator_option(accelerator: Accelerator, buffer_mib: u32) -> String {
    match accelerator {
        Accelerator::Kvm => "kvm".to_owned(),
        Accelerator::Tcg => format!("tcg,tb-size={buffer_mib}"),
    }
}

fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        // Under TCG `rep movsb` is slower than the loop that it replaces, and each toggle of SMAP ends a
        // translation block: a guest that has just been restored has an eighth more to translate. TCG's
        // RDRAND and RDSEED would give the same numbers in all processes that are restored from one
        // checkpoint. Newer versions (10.0, not 7.2) offer FSRM, too. Linux assumes ERMS where there is FSRM:
        // a CPU with FSRM alone makes it corrupt memory in `memmove`, early in the boot.
        Accelerator::Tcg => "max,-erms,-fsrm,-smap,-rdrand,-rdseed",
    }
}

fn channel_arguments() -> Vec<OsString> {
    words(&[
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
        "-chardev",
        &format!("socket,id=qmp,fd={QMP_FD}"),
        "-mon",
        "chardev=qmp,mode=control",
        "-device",
        // The default of 31 ports takes the guest 60 ms to set up.
        "virtio-serial-device,max_ports=2",
        "-chardev",
        &format!("socket,id=link,fd={LINK_FD}"),
        "-device",
        &format!("virtserialport,chardev=link,name={LINK_NAME}"),
    ])
}

fn disk_arguments(index: usize, disk: &Disk, directory: Option<&Path>) -> Vec<OsString> {
    let format = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let mut drive = OsString::from(format!("if=none,id={},format={format},file=", disk.serial));
    let path = directory.and_then(|directory| disk.path.strip_prefix(directory).ok()).unwrap_or(&disk.path);
    drive.push(escape(path));
    drive.push(if disk.durable { ",cache=writeback" } else { ",cache=unsafe" });
    // A failed write pauses the machine until the host can write again: ENOSPC, but also EDQUOT and EROFS, which
    // `werror=enospc` would report to the guest, whose filesystem would then stay read-only.
    drive.push(",discard=unmap,werror=stop,rerror=report");
    if disk.read_only {
        drive.push(",readonly=on");
    }
    vec![
        "-drive".into(),
        drive,
        "-device".into(),
        format!("virtio-blk-device,id=disk{index},drive={0},serial={0}", disk.serial).into(),
    ]
}

/// The NIC is connected to the network through a hub: QEMU cannot reconnect a NIC to another netdev, but a
/// hub port can be added and removed.
fn network_arguments(network: &Network) -> Vec<OsString> {
    // The user-mode network has device state of its own, which a machine on a TAP device cannot load.
    let uplink = match network {
        Network::User(user) => Some(user_netdev(user)),
        Network::Tap(_) => Some(format!("tap,id=net,fd={TAP_FD},vhost=off")),
        Network::Unplugged { .. } => None,
    };
    let mut args = Vec::new();
    if let Some(uplink) = uplink {
        args.extend(words(&["-netdev", &uplink, "-netdev", "hubport,id=uplink,hubid=0,netdev=net"]));
    }
    let nic = format!("virtio-net-device,netdev=card,mac={}", network.mac());
    args.extend(words(&["-netdev", "hubport,id=card,hubid=0", "-device", &nic]));
    args
}

fn user_netdev(network: &UserNetwork) -> String {
    let UserNetwork { network: net, prefix, gateway, guest, dns, forwards, .. } = network;
    let mut netdev =
        format!("user,id=net,ipv6=off,net={net}/{prefix},host={gateway},dhcpstart={guest},dns={dns}");
    for forward in forwards {
        netdev.push_str(&format!(",hostfwd={}", hostfwd(forward, *guest)));
    }
    netdev
}

/// A port forward in QEMU's syntax, which its error messages repeat.
pub(super) fn hostfwd(forward: &Forward, guest: std::net::Ipv4Addr) -> String {
    let Forward { protocol, host_ip, host_port, guest_port } = forward;
    format!("{protocol}:{host_ip}:{host_port}-{guest}:{guest_port}")
}

/// Doubles commas, as QEMU's option syntax requires.
fn escape(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    OsString::from_vec(
        bytes.iter().flat_map(|&b| std::iter::repeat_n(b, 1 + usize::from(b == b','))).collect(),
    )
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert_eq!(escape(Path::new("/a,b/c")), OsString::from("/a,,b/c"));
    }

    /// QEMU 7.2 refuses unknown CPU properties, so it must know all of these.
    #[test]
    fn an_emulated_cpu_has_neither_erms_nor_fsrm() {
        let flags: Vec<_> = cpu_model(Accelerator::Tcg).split(',').collect();
        assert!(flags.contains(&"-erms") && flags.contains(&"-fsrm"), "{flags:?}");
    }

    #[test]
    fn a_read_only_disk_is_read_only_for_qemu_too() {
        let disk = Disk {
            path: "/i".into(),
            serial: "image".into(),
            read_only: true,
            format: DiskFormat::Raw,
            durable: false,
        };
        let args = super::disk_arguments(0, &disk, None);
        assert!(args[1].to_string_lossy().ends_with(",readonly=on"));
        assert_eq!(args[3], "virtio-blk-device,id=disk0,drive=image,serial=image");
    }
}
