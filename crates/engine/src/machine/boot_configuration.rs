//! The configuration of a guest, as far as machines choose it.

use serde::{Deserialize, Serialize};

use super::{MachineSpec, NetworkMode, VolumeMount, named_volumes};
use crate::volumes::VolumeName;

/// The configuration of the guests that a boot snapshot is for, as far as machines choose it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfiguration {
    /// The number of vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Whether it has a NIC.
    pub network: bool,
    /// Its named volumes, in order: whether each is mounted read-only.
    pub volumes: Vec<bool>,
}

impl BootConfiguration {
    /// The configuration of this machine.
    pub(crate) fn from_spec(spec: &MachineSpec) -> Self {
        Self {
            cpus: spec.cpus,
            memory_mib: spec.memory_mib,
            network: spec.network != NetworkMode::None,
            volumes: named_volumes(spec).into_iter().map(|(_, read_only)| read_only).collect(),
        }
    }

    /// A machine of this configuration, with the default driver and accelerator.
    #[must_use]
    pub fn machine(&self) -> MachineSpec {
        let mut spec = MachineSpec::new(String::new());
        (spec.cpus, spec.memory_mib) = (self.cpus, self.memory_mib);
        if !self.network {
            spec.network = NetworkMode::None;
        }
        spec.volume_mounts = self.volumes.iter().enumerate().filter_map(mount).collect();
        spec
    }
}

/// A mount of a volume of which only the order and the access matter.
fn mount((index, read_only): (usize, &bool)) -> Option<VolumeMount> {
    let name: VolumeName = format!("volume-{index}").parse().ok()?;
    let target = format!("/volume-{index}");
    Some(VolumeMount { name: Some(name), target, read_only: *read_only, ..VolumeMount::default() })
}
