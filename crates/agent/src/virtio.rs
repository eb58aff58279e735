//! Devices of the machine, as sysfs tells of them.

/// Where they are.
const DEVICES: &str = "/sys/bus/virtio/devices";

/// Whether there is a device of this kind, of the virtio specification's numbers as sysfs writes them.
pub(crate) fn is_there(kind: &str) -> bool {
    let devices = std::fs::read_dir(DEVICES).into_iter().flatten().flatten();
    devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("device")).ok())
        .any(|number| number.trim() == kind)
}
