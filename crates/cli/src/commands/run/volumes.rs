//! Options of `run` that mount something in the container: directories of the host, volumes and temporary filesystems.

mod from;
mod mount;
mod options;
mod volume;

use mimeo_engine::machine::{ImageVolumes, MachineSpec, VolumeMount, VolumeSpec};

use crate::backend::Host;
use crate::error::CliError;

/// What is mounted, and from where.
#[derive(Debug, Default, clap::Args)]
pub(super) struct VolumeOptions {
    /// Mount a directory or file of the host, or a named volume, which is created if it does not exist; a path alone
    /// is an anonymous volume, which is removed with the machine; can be repeated
    #[arg(short, long, value_name = "[HOST|NAME:]GUEST[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount a directory or file of the host, a volume or a tmpfs in the machine; can be repeated
    #[arg(long, value_name = "type=TYPE,OPTION=VALUE,…")]
    mount: Vec<String>,
    /// Mount the host's directories and the named volumes of another machine; can be repeated
    #[arg(long, value_name = "MACHINE[:ro]")]
    volumes_from: Vec<String>,
    /// What to mount where the image declares a volume: an anonymous volume (bind is the same), a tmpfs, or nothing
    /// (ignore)
    #[arg(long, value_name = "MODE", default_value = "anonymous", value_parser = image_volumes)]
    image_volume: ImageVolumes,
    /// docker's choice of a program that provides volumes: only local
    #[arg(long, hide = true, value_name = "DRIVER", default_value = LOCAL_DRIVER)]
    volume_driver: String,
}

/// The name of the only driver of volumes, as podman's.
pub(crate) const LOCAL_DRIVER: &str = "local";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mount {
    /// A directory or file of the host.
    Host(VolumeSpec),
    /// A named or an anonymous volume.
    Volume(VolumeMount),
    /// A temporary filesystem, as `--tmpfs` takes it.
    Tmpfs(String),
}

/// The mounts of a machine.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) volumes: Vec<VolumeSpec>,
    pub(super) volume_mounts: Vec<VolumeMount>,
    pub(super) image_volumes: ImageVolumes,
    /// Temporary filesystems, as `--tmpfs` takes them.
    pub(super) tmpfs: Vec<String>,
}

impl VolumeOptions {
    /// The mounts that the options name, but for those of other machines.
    pub(super) fn parse(&self) -> Result<Mounts, CliError> {
        check_driver("--volume-driver", &self.volume_driver)?;
        let short = self.volume.iter().map(|text| volume::parse(text));
        let long = self.mount.iter().map(|text| mount::parse(text));
        let mut mounts = Mounts { image_volumes: self.image_volume, ..Mounts::default() };
        short.chain(long).try_for_each(|mount| {
            mounts.push(mount?);
            Ok::<_, CliError>(())
        })?;
        Ok(mounts)
    }

    /// The machines whose mounts are requested.
    pub(super) fn volumes_from(&self) -> &[String] {
        &self.volumes_from
    }
}

impl Mounts {
    /// Adds a mount. As podman, the same one again is no conflict.
    fn push(&mut self, mount: Mount) {
        match mount {
            Mount::Host(volume) if !self.volumes.contains(&volume) => self.volumes.push(volume),
            Mount::Volume(volume) if !self.volume_mounts.contains(&volume) => self.volume_mounts.push(volume),
            Mount::Tmpfs(tmpfs) => self.tmpfs.push(tmpfs),
            Mount::Host(_) | Mount::Volume(_) => {}
        }
    }
}

/// Adds the mounts of other machines to the spec.
pub(super) async fn add_mounts_of_others(
    host: &Host,
    others: &[String],
    spec: &mut MachineSpec,
) -> Result<(), CliError> {
    for other in others {
        from::add_mounts_of(host, other, spec).await?;
    }
    Ok(())
}

/// Refuses a driver of volumes that mimeo does not have.
pub(crate) fn check_driver(option: &str, driver: &str) -> Result<(), CliError> {
    match driver {
        LOCAL_DRIVER | "" => Ok(()),
        _ => Err(CliError::usage(format!(
            "cannot use {option} {driver}: mimeo has no volume plugins: volumes are disks on this host, of the driver \
             {LOCAL_DRIVER}"
        ))),
    }
}

/// Parses `--image-volume`. podman's name of anonymous volumes is `bind`.
fn image_volumes(text: &str) -> Result<ImageVolumes, String> {
    match text {
        "anonymous" | "bind" | "" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err("use bind, anonymous, tmpfs or ignore".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_mount_twice_is_one() {
        let volume =
            ["data:/d", "data:/d", "data:/e", "/h:/h", "/h:/h", "/a", "/a"].map(str::to_owned).to_vec();
        let mounts = VolumeOptions { volume, ..VolumeOptions::default() }.parse().expect("mounts");
        let targets: Vec<_> = mounts.volume_mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!((targets, mounts.volumes.len()), (vec!["/d", "/e", "/a"], 1));
    }

    #[test]
    fn modes_of_an_images_volumes_are_podmans() {
        for (text, mode) in [
            ("bind", ImageVolumes::Anonymous),
            ("anonymous", ImageVolumes::Anonymous),
            ("", ImageVolumes::Anonymous),
            ("tmpfs", ImageVolumes::Tmpfs),
            ("ignore", ImageVolumes::Ignore),
        ] {
            assert_eq!(image_volumes(text), Ok(mode), "{text}");
        }
        assert!(image_volumes("shiny").is_err());
        assert!(
            check_driver("--volume-driver", "local").is_ok()
                && check_driver("--volume-driver", "nfs").is_err()
        );
    }
}
