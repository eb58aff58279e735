//! What is mounted in a machine's container, as podman shows it.

use std::path::PathBuf;

use mimeo_engine::machine::{Found, MachineSpec, Record, VolumeMount, VolumeSpec};
use serde::Serialize;

use crate::backend::Host;
use crate::view::ImageNames;

/// One mount, with podman's fields.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    kind: &'static str,
    /// The named volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The directory or file of the host, or the directory with the volume's disk.
    source: PathBuf,
    destination: String,
    driver: &'static str,
    mode: &'static str,
    options: Vec<&'static str>,
    #[serde(rename = "RW")]
    writable: bool,
    propagation: &'static str,
}

/// All mounts of a machine: directories of the host, then volumes, then those that its image declares.
pub(crate) fn all(host: &Host, found: &Found, names: &ImageNames) -> Vec<Mount> {
    let spec = &found.record.spec;
    let directories = spec.volumes.iter().map(Mount::from);
    let volumes = spec.volume_mounts.iter().map(|mount| of_volume(mount, source(host, found, mount)));
    let declared = names.declared_volumes(&found.record).into_iter().map(|target| {
        let mount = VolumeMount { target, ..VolumeMount::default() };
        of_volume(&mount, found.dir.clone())
    });
    directories.chain(volumes).chain(declared).collect()
}

/// Where something is mounted in a machine's container.
pub(crate) fn targets(record: &Record, names: &ImageNames) -> Vec<String> {
    let host = record.spec.volumes.iter().map(|volume| volume.guest.clone());
    let volumes = record.spec.volume_mounts.iter().map(|mount| mount.target.clone());
    host.chain(volumes).chain(names.declared_volumes(record)).collect()
}

/// podman's form of the mounts that have a source: `SOURCE:TARGET:OPTIONS`.
pub(crate) fn binds(spec: &MachineSpec) -> Vec<String> {
    let access = |read_only| if read_only { "ro" } else { "rw" };
    let host = spec.volumes.iter().map(|volume| {
        format!("{}:{}:{},rprivate,rbind", volume.host.display(), volume.guest, access(volume.read_only))
    });
    let named = spec.volume_mounts.iter().filter_map(|mount| {
        let name = mount.name.as_ref()?;
        let options = options(mount).join(",");
        Some(format!("{name}:{}:{},rprivate,{options}", mount.target, access(mount.read_only)))
    });
    host.chain(named).collect()
}

/// The directory with the disk that the volume is on: the volume's own, or the machine's.
fn source(host: &Host, found: &Found, mount: &VolumeMount) -> PathBuf {
    match &mount.name {
        Some(name) if found.record.refers_to(name) => host.volume_dir(found, name),
        _ => found.dir.clone(),
    }
}

fn of_volume(mount: &VolumeMount, source: PathBuf) -> Mount {
    Mount {
        kind: "volume",
        name: mount.name.as_ref().map(ToString::to_string),
        source,
        destination: mount.target.clone(),
        driver: "local",
        mode: "",
        options: options(mount),
        writable: !mount.read_only,
        propagation: "rprivate",
    }
}

fn options(mount: &VolumeMount) -> Vec<&'static str> {
    let mut options = Vec::new();
    options.extend(mount.no_copy.then_some("nocopy"));
    options.extend(mount.no_exec.then_some("noexec"));
    options.push(if mount.suid { "suid" } else { "nosuid" });
    options.push(if mount.dev { "dev" } else { "nodev" });
    options.push("rbind");
    options
}

impl From<&VolumeSpec> for Mount {
    fn from(volume: &VolumeSpec) -> Self {
        Self {
            kind: "bind",
            name: None,
            source: volume.host.clone(),
            destination: volume.guest.clone(),
            driver: "",
            mode: "",
            options: vec!["rbind"],
            writable: !volume.read_only,
            propagation: "rprivate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_podmans() {
        let name = Some("data".parse().expect("a name"));
        let spec = MachineSpec {
            volumes: vec![VolumeSpec { host: "/h".into(), guest: "/t".into(), read_only: true }],
            volume_mounts: vec![
                VolumeMount { name: name.clone(), target: "/d".into(), ..VolumeMount::default() },
                VolumeMount { target: "/anonymous".into(), ..VolumeMount::default() },
                VolumeMount {
                    name,
                    target: "/e".into(),
                    read_only: true,
                    no_copy: true,
                    suid: true,
                    ..VolumeMount::default()
                },
            ],
            ..MachineSpec::new("image")
        };
        assert_eq!(
            binds(&spec),
            [
                "/h:/t:ro,rprivate,rbind",
                "data:/d:rw,rprivate,nosuid,nodev,rbind",
                "data:/e:ro,rprivate,nocopy,suid,nodev,rbind"
            ]
        );
    }
}
