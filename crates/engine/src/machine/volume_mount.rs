//! A volume in a container that is not a directory of the host.

use serde::{Deserialize, Serialize};

use super::MachineSpec;
use crate::volumes::VolumeName;

/// A volume in a container, as the user requests it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeMount {
    /// The named volume. Without one the volume is anonymous: it is a part of the machine's own disk.
    pub name: Option<VolumeName>,
    /// Absolute path in the container.
    pub target: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Refuse to execute files of it.
    pub no_exec: bool,
    /// Heed set-user-ID bits.
    pub suid: bool,
    /// Allow device files.
    pub dev: bool,
    /// Leave a new volume empty, instead of giving it the image's content at that path.
    pub no_copy: bool,
}

/// What becomes of the volumes that an image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVolumes {
    /// They are anonymous volumes.
    #[default]
    Anonymous,
    /// They are temporary filesystems.
    Tmpfs,
    /// They are nothing special.
    Ignore,
}

/// Returns where an image's volumes are mounted: the paths that it declares, except those where the user mounts
/// something else. A relative path begins at the root.
pub fn image_volumes(spec: &MachineSpec, declared: &[String]) -> impl Iterator<Item = String> {
    let plain = |target: &str| format!("/{}", target.trim_matches('/'));
    let host = spec.volumes.iter().map(|volume| plain(&volume.guest));
    let volumes = spec.volume_mounts.iter().map(|mount| plain(&mount.target));
    let tmpfs = spec.container.tmpfs.iter().map(|tmpfs| plain(&tmpfs.target));
    let taken: Vec<String> = host.chain(volumes).chain(tmpfs).collect();
    let mut targets: Vec<String> = declared.iter().map(|target| plain(target)).collect();
    targets.retain(|target| target != "/" && !taken.contains(target));
    targets.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_volumes_give_way_to_other_mounts() {
        let declared = ["/data/", "relative", "/var/lib", "/", ""].map(str::to_owned);
        let mut spec = MachineSpec::new("image");
        let targets = |spec: &MachineSpec| image_volumes(spec, &declared).collect::<Vec<_>>();
        assert_eq!(targets(&spec), ["/data", "/relative", "/var/lib"]);
        spec.volume_mounts = vec![VolumeMount { target: "/var/lib/".into(), ..VolumeMount::default() }];
        assert_eq!(targets(&spec), ["/data", "/relative"]);
    }
}
