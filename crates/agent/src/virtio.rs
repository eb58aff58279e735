//! Virtio devices of this machine, from sysfs.

const DEVICES: &str = "/sys/bus/virtio/devices";

/// Whether there is a device with this device id of the virtio specification, in sysfs' notation (`0x0005`).
pub(crate) fn has_device(id: &str) -> bool {
    let devices = std::fs::read_dir(DEVICES).into_iter().flatten().flatten();
    devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("device")).ok())
        .any(|number| number.trim() == id)
}
