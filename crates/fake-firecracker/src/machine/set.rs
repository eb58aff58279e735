//! Configuration before the start.

use std::fs::File;

use serde_json::Value;

use super::drive::open_drive;
use super::{Answer, DONE, Machine, open_log};
use crate::schema::{BootSource, Drive, MachineConfig, NetworkInterface, VsockDevice};
use crate::tap;
use crate::vsock::Vsock;

impl Machine {
    pub(super) fn set_machine(&mut self, machine: MachineConfig) -> Answer {
        let is_odd = machine.smt && machine.vcpu_count > 1 && machine.vcpu_count % 2 == 1;
        if machine.vcpu_count == 0 || machine.vcpu_count > 32 || is_odd {
            return Err(
                "Machine config error: The number of vCPUs must be greater than 0, less than 32 and \
                        must be 1 or an even number if SMT is enabled."
                    .to_owned(),
            );
        }
        if machine.mem_size_mib == 0 {
            return Err("Machine config error: The memory size (MiB) is either 0, or not a multiple of the \
                        configured page size."
                .to_owned());
        }
        self.config.machine = machine;
        DONE
    }

    pub(super) fn set_boot_source(&mut self, source: BootSource) -> Answer {
        File::open(&source.kernel_image_path)
            .map_err(|error| format!("Boot source error: The kernel file cannot be opened: {error}"))?;
        if let Some(initrd) = &source.initrd_path {
            File::open(initrd).map_err(|error| {
                format!(
                    "Boot source error: The initrd file cannot be opened due to invalid path or invalid \
                     permissions. {error}"
                )
            })?;
        }
        self.config.boot = Some(source);
        DONE
    }

    pub(super) fn set_drive(&mut self, drive: Drive) -> Answer {
        let failed = |why: String| format!("Drive config error: {why}");
        open_drive(&drive)
            .map_err(|why| failed(format!("Unable to create the virtio block device: {why}")))?;
        let drives = &mut self.config.drives;
        if drive.is_root_device
            && drives.iter().any(|other| other.is_root_device && other.drive_id != drive.drive_id)
        {
            return Err(failed("A root block device already exists!".to_owned()));
        }
        match drives.iter().position(|other| other.drive_id == drive.drive_id) {
            Some(position) => drives[position] = drive,
            None if drive.is_root_device => drives.insert(0, drive),
            None => drives.push(drive),
        }
        DONE
    }

    pub(super) fn set_interface(&mut self, interface: NetworkInterface) -> Answer {
        let others = || self.config.interfaces.iter().filter(|other| other.iface_id != interface.iface_id);
        if let Some(mac) = &interface.guest_mac
            && others().any(|other| other.guest_mac.as_ref() == Some(mac))
        {
            return Err(format!("Network config error: The MAC address is already in use: {mac}"));
        }
        let tap = tap::open(&interface.host_dev_name)
            .map_err(|why| format!("Network config error: Could not create the network device: {why}"))?;
        self.taps.push(tap);
        self.config.interfaces.retain(|other| other.iface_id != interface.iface_id);
        self.config.interfaces.push(interface);
        DONE
    }

    pub(super) fn set_vsock(&mut self, device: VsockDevice) -> Answer {
        if self.vsock.take().is_some() {
            // The previous vsock is replaced.
            let before = self.config.vsock.take().map(|device| device.uds_path);
            // If it cannot be removed, binding the new one reports that.
            before.map(std::fs::remove_file).transpose().unwrap_or_default();
        }
        let listening = Vsock::listen(&device.uds_path, self.settings.guest).map_err(|error| {
            format!(
                "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side \
                 Unix socket: {error}"
            )
        })?;
        self.vsock = Some(listening);
        self.config.vsock = Some(device);
        DONE
    }

    pub(super) fn set_metrics(&mut self, path: &str) -> Answer {
        let failed = |why: &str| {
            format!("Metrics error: Cannot initialize the metrics system due to bad user input: {why}")
        };
        if self.metrics {
            return Err(failed("Reinitialization of metrics not allowed."));
        }
        open_log(path, &self.settings.version).map_err(|error| failed(&error.to_string()))?;
        self.metrics = true;
        DONE
    }

    pub(super) fn set_mmds_config(&mut self, interfaces: &[String]) -> Answer {
        let failed = |why: &str| Err(format!("MMMDS config error: The list of network interface IDs {why}"));
        if interfaces.is_empty() {
            return failed("that allow forwarding MMDS requests is empty.");
        }
        if interfaces
            .iter()
            .any(|id| self.config.interfaces.iter().all(|interface| interface.iface_id != *id))
        {
            return failed(
                "provided contains at least one ID that does not correspond to any existing network interface.",
            );
        }
        DONE
    }

    pub(super) fn set_mmds(&mut self, value: Value) -> Answer {
        self.mmds = Some(value);
        DONE
    }

    pub(super) fn merge_mmds(&mut self, value: Value) -> Answer {
        match &mut self.mmds {
            Some(before) => merge(before, value),
            None => return Err("MMDS error: The MMDS data store is not initialized.".to_owned()),
        }
        DONE
    }
}

/// JSON merge patch: null removes a key.
fn merge(before: &mut Value, value: Value) {
    match (before, value) {
        (Value::Object(before), Value::Object(values)) => {
            for (key, value) in values {
                if value.is_null() {
                    before.remove(&key);
                } else {
                    merge(before.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (before, value) => *before = value,
    }
}
