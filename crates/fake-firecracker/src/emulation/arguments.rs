//! QEMU's command line.

use super::{Hardware, Origin};

/// Extra kernel parameters: the guest runs under emulation, and does not know it.
const EMULATED: &str = "tsc=reliable no_timer_check noreplace-smp init_on_alloc=0";
/// The socket of the serial port that serves as the guest's link.
pub(super) const PORT: &str = "fake.port";
pub(super) const QMP_FD: i32 = 3;
pub(super) const STATE_FD: i32 = 4;
pub(super) const TAP_FD: i32 = 5;

/// The arguments for a guest with this hardware and its memory in a file.
pub(super) fn build(hardware: Hardware<'_>, origin: Origin<'_>, memory: &str) -> Vec<String> {
    let Hardware { cpus, mib, drives, interfaces, .. } = hardware;
    let mut arguments: Vec<String> = [
        "-M",
        "microvm,acpi=on,rtc=on,memory-backend=ram,suppress-vmdesc=on",
        "-accel",
        "tcg,tb-size=64",
        "-cpu",
        // CPU model and firmware as in the QEMU driver, for the same reasons.
        "max,-erms,-fsrm,-smap",
        "-bios",
        "qboot.rom",
        "-smp",
        &cpus.to_string(),
        "-m",
        &format!("{mib}M"),
        "-object",
        &format!("memory-backend-file,id=ram,size={mib}M,share=on,mem-path={memory}"),
        "-global",
        "migration.send-configuration=off",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-chardev",
        &format!("socket,id=qmp,fd={QMP_FD}"),
        "-mon",
        "chardev=qmp,mode=control",
        "-device",
        "virtio-rng-device",
        "-device",
        "virtio-serial-device,max_ports=2",
        "-chardev",
        &format!("socket,id=link,path={PORT},server=on,wait=off"),
        "-device",
        "virtserialport,chardev=link,name=mimeo",
    ]
    .map(str::to_owned)
    .to_vec();
    for (position, drive) in drives.iter().enumerate() {
        let path = drive.path_on_host.as_deref().unwrap_or_default();
        let rights = if drive.is_read_only.unwrap_or_default() { "on" } else { "off" };
        arguments.extend([
            "-drive".to_owned(),
            format!("if=none,id=d{position},format=raw,file={path},readonly={rights}"),
        ]);
        arguments.extend(["-device".to_owned(), format!("virtio-blk-device,drive=d{position}")]);
    }
    if let Some(interface) = interfaces.first() {
        let mac = interface.guest_mac.as_deref().unwrap_or("02:00:00:00:00:01");
        arguments.extend(["-netdev".to_owned(), format!("tap,id=net,fd={TAP_FD},vhost=off")]);
        arguments.extend(["-device".to_owned(), format!("virtio-net-device,netdev=net,mac={mac}")]);
    }
    arguments.extend(origin_arguments(origin));
    arguments
}

fn origin_arguments(origin: Origin<'_>) -> Vec<String> {
    let Origin::Boot(boot) = origin else {
        return ["-S".to_owned(), "-incoming".to_owned(), format!("fd:{STATE_FD}")].to_vec();
    };
    let mut arguments = vec!["-kernel".to_owned(), boot.kernel_image_path.clone()];
    arguments.extend(boot.initrd_path.iter().flat_map(|path| ["-initrd".to_owned(), path.clone()]));
    let line = format!("{} {EMULATED} tsc_early_khz={}", boot.boot_args.clone().unwrap_or_default(), khz());
    arguments.extend(["-append".to_owned(), line]);
    arguments
}

/// The frequency of the host's TSC, which a guest under TCG cannot measure.
fn khz() -> u64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("cpu MHz"));
    let mhz = line.and_then(|line| line.split(':').nth(1)?.trim().parse::<f64>().ok());
    (mhz.unwrap_or(2000.0) * 1000.0) as u64
}
