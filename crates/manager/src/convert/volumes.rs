//! Mounts of a container: the engine has a list for each type.

use std::path::PathBuf;

use mimeo_agent_protocol::message::Tmpfs;
use mimeo_engine::machine::{MachineSpec, VolumeMount};
use mimeo_manager_api::Volume;
use mimeo_volume::VolumeSpec;

use super::check::{container_path, require};
use super::error::{Converted, InField};

/// Directories that are the kernel's, and the root.
const RESERVED: [&str; 4] = ["/", "/proc", "/sys", "/dev"];
/// tmpfs's own options, each with a value.
const TMPFS_OPTIONS: [&str; 5] = ["size", "mode", "uid", "gid", "nr_inodes"];

/// Sets the mounts of a spec.
pub(super) fn apply(volumes: &[Volume], spec: &mut MachineSpec) -> Converted<()> {
    volumes.iter().enumerate().try_for_each(|(at, volume)| add(&format!("volumes[{at}]"), volume, spec))
}

fn add(field: &str, volume: &Volume, spec: &mut MachineSpec) -> Converted<()> {
    match volume {
        Volume::Bind { source, target, read_only } => {
            let is_path = source.starts_with('/') && !source.contains('\0');
            require(is_path, format!("{field}.source"), format!("{source:?} is not an absolute path"))?;
            let guest = container_path(&format!("{field}.target"), target)?;
            spec.volumes.push(VolumeSpec { host: PathBuf::from(source), guest, read_only: *read_only });
        }
        Volume::Volume { source, target, read_only, no_exec, suid, dev, no_copy } => {
            let name = source.as_deref().map(str::parse).transpose().in_field(format!("{field}.source"))?;
            let target = container_path(&format!("{field}.target"), target)?;
            require(target != "/", format!("{field}.target"), "it cannot replace the container's root")?;
            let (read_only, no_exec, suid) = (*read_only, *no_exec, *suid);
            let (dev, no_copy) = (*dev, *no_copy);
            spec.volume_mounts.push(VolumeMount { name, target, read_only, no_exec, suid, dev, no_copy });
        }
        Volume::Tmpfs { target, options, read_only, no_exec, suid, dev, no_copy } => {
            check_tmpfs_options(&format!("{field}.options"), options)?;
            let target = tmpfs_target(&format!("{field}.target"), target, spec)?;
            let (read_only, no_exec, suid) = (*read_only, *no_exec, *suid);
            let (dev, copy_up, options) = (*dev, !no_copy, options.clone());
            let tmpfs = Tmpfs { target, options, read_only, no_exec, suid, dev, copy_up };
            spec.container.tmpfs.push(tmpfs);
        }
    }
    Ok(())
}

fn tmpfs_target(field: &str, target: &str, spec: &MachineSpec) -> Converted<String> {
    let target = container_path(field, target)?;
    require(!RESERVED.contains(&target.as_str()), field, format!("a tmpfs cannot replace {target}"))?;
    let is_taken = spec.container.tmpfs.iter().any(|other| other.target == target);
    require(!is_taken, field, format!("another tmpfs is mounted on {target}"))?;
    Ok(target)
}

fn check_tmpfs_options(field: &str, options: &str) -> Converted<()> {
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let is_value =
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%');
        let is_option = TMPFS_OPTIONS.contains(&name) && is_value;
        require(is_option, field, format!("{option:?} is not one of {}=VALUE", TMPFS_OPTIONS.join(", ")))?;
    }
    Ok(())
}

/// The mounts of a spec.
pub(super) fn api_volumes(spec: &MachineSpec) -> Vec<Volume> {
    let host = spec.volumes.iter().map(|volume| Volume::Bind {
        source: volume.host.to_string_lossy().into_owned(),
        target: volume.guest.clone(),
        read_only: volume.read_only,
    });
    let volumes = spec.volume_mounts.iter().map(|mount| Volume::Volume {
        source: mount.name.as_ref().map(|name| name.as_str().to_owned()),
        target: mount.target.clone(),
        read_only: mount.read_only,
        no_exec: mount.no_exec,
        suid: mount.suid,
        dev: mount.dev,
        no_copy: mount.no_copy,
    });
    let tmpfs = spec.container.tmpfs.iter().map(|tmpfs| Volume::Tmpfs {
        target: tmpfs.target.clone(),
        options: tmpfs.options.clone(),
        read_only: tmpfs.read_only,
        no_exec: tmpfs.no_exec,
        suid: tmpfs.suid,
        dev: tmpfs.dev,
        no_copy: !tmpfs.copy_up,
    });
    host.chain(volumes).chain(tmpfs).collect()
}
