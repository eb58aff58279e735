//! The disks that a machine writes: its own, and those of its named volumes.

use std::path::{Path, PathBuf};

use mimeo_vmm::{Disk, DiskFormat};
use serde::{Deserialize, Serialize};

use super::{MachineSpec, Record};
use crate::disk_layers::{layer_file_name, top_layer};
use crate::volumes::VolumeName;

/// Serial number by which the guest finds the image's disk.
pub(crate) const IMAGE_SERIAL: &str = "image";
/// Serial number by which the guest finds the writable layer's disk.
pub(crate) const WRITABLE_SERIAL: &str = "writable";
/// The disks before those of the volumes.
const FIRST_VOLUME: u32 = 2;

/// The disk of a machine's named volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDisk {
    /// The volume. That of a clone is a copy of its own of what was the volume when the snapshot was taken.
    pub name: VolumeName,
    /// Whether the disk is the machine's own, in its directory, and not that of the volume.
    pub own: bool,
    /// The number of files that form the disk, each layered over the one before.
    pub layers: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether the machine only reads it.
    pub read_only: bool,
}

/// A disk of a machine, with the directory of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineDisk {
    /// The serial number by which the guest finds it.
    pub(crate) serial: String,
    /// The directory of its layers.
    pub(crate) dir: PathBuf,
    /// The directory of its layers in a snapshot, relative to the snapshot's.
    pub(crate) saved_dir: PathBuf,
    pub(crate) layers: u32,
    pub(crate) bytes: u64,
    pub(crate) read_only: bool,
}

impl MachineDisk {
    /// The disk, for the VMM.
    pub(crate) fn launched(&self) -> Disk {
        let (path, format) = top_layer(&self.dir, self.layers);
        let durable = self.serial != WRITABLE_SERIAL;
        Disk { path, serial: self.serial.clone(), read_only: self.read_only, format, durable }
    }

    /// The same disk with its layers elsewhere.
    pub(crate) fn moved_to(&self, root: &Path) -> Self {
        Self { dir: root.join(&self.saved_dir), ..self.clone() }
    }

    /// The path of a layer.
    pub(crate) fn layer(&self, layer: u32) -> PathBuf {
        self.dir.join(layer_file_name(layer))
    }

    /// The names of its layers in a snapshot.
    pub(crate) fn saved_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.layers).map(|layer| {
            let path = self.saved_dir.join(layer_file_name(layer));
            path.to_string_lossy().into_owned()
        })
    }
}

/// The machine's own disk and those of its volumes, in the order in which its VMM has them. `dir` is the machine's
/// directory.
pub(crate) fn machine_disks(dir: &Path, record: &Record) -> Vec<MachineDisk> {
    let own = MachineDisk {
        serial: WRITABLE_SERIAL.to_owned(),
        dir: dir.to_owned(),
        saved_dir: PathBuf::new(),
        layers: record.disk_layers,
        bytes: record.spec.disk_bytes,
        read_only: false,
    };
    let volumes = record.volumes.iter().enumerate().map(|(index, volume)| {
        let serial = volume_serial(index);
        MachineDisk {
            dir: dir.join(&serial),
            saved_dir: PathBuf::from(&serial),
            serial,
            layers: volume.layers,
            bytes: volume.bytes,
            read_only: volume.read_only,
        }
    });
    std::iter::once(own).chain(volumes).collect()
}

/// The serial number of a volume's disk: its position among the machine's volumes. It is also the name of the directory
/// of its layers in the machine's directory; for a volume that is not the machine's own that is a link to the volume's.
/// A QEMU that was restored from a stencil opens the file again by the relative path that it had in the stencil.
pub(crate) fn volume_serial(index: usize) -> String {
    format!("volume-{index}")
}

/// The position of a disk among all disks of a machine, the image's included.
pub(crate) fn disk_position(serial: &str) -> u32 {
    let volume = serial.strip_prefix("volume-").and_then(|index| index.parse::<u32>().ok());
    volume.map_or(u32::from(serial != IMAGE_SERIAL), |index| FIRST_VOLUME + index)
}

/// The named volumes of a machine, each once, and whether all of its mounts are read-only.
pub(crate) fn named_volumes(spec: &MachineSpec) -> Vec<(VolumeName, bool)> {
    let mut found: Vec<(VolumeName, bool)> = Vec::new();
    for mount in &spec.volume_mounts {
        let Some(name) = &mount.name else { continue };
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, read_only)) => *read_only &= mount.read_only,
            None => found.push((name.clone(), mount.read_only)),
        }
    }
    found
}

/// The image's disk.
pub(crate) fn image_disk(image: &Path) -> Disk {
    let (path, serial) = (image.to_owned(), IMAGE_SERIAL.to_owned());
    Disk { path, serial, read_only: true, format: DiskFormat::Raw, durable: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::VolumeMount;

    #[test]
    fn a_volume_that_is_mounted_twice_is_one_disk() {
        let mount = |name: Option<&str>, read_only| VolumeMount {
            name: name.map(|name| name.parse().expect("a name")),
            read_only,
            ..VolumeMount::default()
        };
        let volume_mounts =
            vec![mount(Some("a"), true), mount(None, false), mount(Some("b"), true), mount(Some("a"), false)];
        let found = named_volumes(&MachineSpec { volume_mounts, ..MachineSpec::new("image") });
        let found: Vec<_> = found.iter().map(|(name, read_only)| (name.as_str(), *read_only)).collect();
        assert_eq!(found, [("a", false), ("b", true)]);
    }

    #[test]
    fn positions_are_in_the_order_of_the_disks() {
        let serials = [IMAGE_SERIAL, WRITABLE_SERIAL, &volume_serial(0), &volume_serial(12)];
        assert_eq!(serials.map(disk_position), [0, 1, 2, 14]);
    }
}
