//! What is mounted in a container: directories of the host, and volumes on disks of the guest.

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{DiskVolume, Reply, Request};
use mimeo_image::ImageConfig;
use mimeo_vmm::DiskIdentification;
use mimeo_volume::{VolumeServer, VolumeSpec};

use crate::guest::disk;
use crate::machine::{ImageVolumes, Record, VolumeMount, image_volumes, named_volumes, volume_serial};
use crate::stage::StageError;

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mount {
    Host(VolumeSpec),
    Disk(DiskVolume),
}

impl Mount {
    fn target(&self) -> &str {
        match self {
            Self::Host(volume) => &volume.guest,
            Self::Disk(volume) => &volume.target,
        }
    }
}

/// Mounts all of a machine's volumes, one below another last, and serves those of the host.
pub(super) async fn mount_volumes(
    link: &Link,
    record: &Record,
    image: &ImageConfig,
    disks: DiskIdentification,
) -> Result<Vec<VolumeServer>, StageError> {
    let mut servers = Vec::new();
    for mount in mounts(record, image, disks) {
        match mount {
            Mount::Host(volume) => {
                let total = record.spec.volumes.len();
                servers.push(mimeo_volume::serve(link, &volume, total).await?);
            }
            Mount::Disk(volume) => {
                let target = volume.target.clone();
                let mounted = link.call(&Request::DiskVolume(volume)).await.and_then(Reply::done);
                mounted.map_err(|source| StageError::MountVolume { target, source })?;
            }
        }
    }
    Ok(servers)
}

fn mounts(record: &Record, image: &ImageConfig, disks: DiskIdentification) -> Vec<Mount> {
    let spec = &record.spec;
    let of_disk = |mount: VolumeMount| Mount::Disk(disk_volume(record, mount, disks));
    let mut all: Vec<Mount> = spec.volumes.iter().cloned().map(Mount::Host).collect();
    all.extend(spec.volume_mounts.iter().cloned().map(of_disk));
    if spec.image_volumes == ImageVolumes::Anonymous {
        let anonymous = |target| VolumeMount { target, ..VolumeMount::default() };
        all.extend(image_volumes(spec, &image.volumes).map(anonymous).map(of_disk));
    }
    all.sort_by(|a, b| a.target().cmp(b.target()));
    all
}

fn disk_volume(record: &Record, mount: VolumeMount, disks: DiskIdentification) -> DiskVolume {
    let named = named_volumes(&record.spec);
    let index = mount.name.as_ref().and_then(|name| named.iter().position(|(known, _)| known == name));
    DiskVolume {
        target: mount.target,
        disk: index.map(|index| disk(&volume_serial(index), disks)),
        read_only: mount.read_only,
        no_exec: mount.no_exec,
        suid: mount.suid,
        dev: mount.dev,
        copy_up: !mount.no_copy,
        user: record.process.user.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{MachineId, MachineName, MachineSpec};

    #[test]
    fn a_volume_below_another_is_mounted_after_it() {
        let mut spec = MachineSpec::new("image");
        let host = |guest: &str| VolumeSpec { host: "/h".into(), guest: guest.into(), read_only: false };
        spec.volumes = vec![host("/app/src"), host("/data")];
        let named = Some("cache".parse().expect("a name"));
        spec.volume_mounts = vec![
            VolumeMount { name: named, target: "/app/src/cache".into(), ..VolumeMount::default() },
            VolumeMount { target: "/app".into(), ..VolumeMount::default() },
        ];
        let record = Record::new(MachineId::random(), MachineName::random(), spec);
        let image =
            ImageConfig { volumes: vec!["/data/".into(), "/var/lib".into()], ..ImageConfig::default() };
        let mounts = mounts(&record, &image, DiskIdentification::Position);
        let targets: Vec<_> = mounts.iter().map(Mount::target).collect();
        assert_eq!(targets, ["/app", "/app/src", "/app/src/cache", "/data", "/var/lib"]);
        let Mount::Disk(volume) = &mounts[2] else { panic!("a disk") };
        assert_eq!(volume.disk.as_ref().and_then(|disk| disk.position), Some(2));
    }
}
