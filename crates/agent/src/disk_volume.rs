//! `disk_volume`: mounts a volume that is on a disk of the guest: one of its own, or the writable layer's.
//!
//! The disk's root holds one directory, [`DATA`], which is what the container sees. It is complete as soon as it has
//! that name, so a volume whose first mount was interrupted is filled again by the next one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Disk, DiskVolume, Failure, FailureKind, Reply};
use rustix::fs::{Gid, Mode, OFlags, Uid, chmod, chown};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::archive;
use crate::blocking::{ContainerRoot, run_blocking, run_in_container};
use crate::boot;
use crate::disk;
use crate::failure::{Context, SystemError, failure, wrong_state};
use crate::launch;
use crate::machine::{Machine, State};
use crate::rootfs::{ROOT, Root, WRITABLE, fd_path, managed};

/// The directory in which the volumes' own disks are mounted, each under its serial number.
pub(crate) const DISKS: &str = "/run/mimeo/disks";
/// The volume's files, in the volume's directory.
const DATA: &str = "data";
/// The name of [`DATA`] until it is complete.
const DRAFT: &str = "data.new";
/// The volumes on the writable layer's disk, each under its target.
const OWN: &str = "volumes";
/// The longest target of a volume on the writable layer's disk: two digits for each byte are a file name.
const MAX_OWN_TARGET: usize = 127;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Mounts the volume in a machine that has been configured.
pub(crate) async fn handle(machine: &Arc<Machine>, volume: DiskVolume) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let root_read_only = validate(machine, &volume)?;
    let user = volume.user.clone();
    // An unknown user is reported when the container's process is started.
    let owner = run_in_container(ContainerRoot::Chroot, move || launch::resolve_user(&user)).await;
    let owner = owner.unwrap_or((0, 0));
    run_blocking(move || Ok(mount(&volume, owner, root_read_only)?)).await?;
    Ok(Reply::Done)
}

/// Returns whether the container's root is read-only.
fn validate(machine: &Machine, volume: &DiskVolume) -> Result<bool, Failure> {
    let is_name = |disk: &Disk| !disk.serial.is_empty() && !disk.serial.contains(['/', '.']);
    let is_valid = volume.disk.as_ref().map_or(volume.target.len() <= MAX_OWN_TARGET, is_name);
    if !volume.target.starts_with('/') || !is_valid {
        return Err(failure(FailureKind::Invalid, format!("invalid volume at {}", volume.target)));
    }
    match machine.state() {
        State::Configured(configured) => Ok(configured.read_only),
        State::Booted => Err(wrong_state("the machine has not been configured")),
        State::Running(_) | State::Ended(_) => Err(wrong_state("the container has been started already")),
    }
}

fn mount(volume: &DiskVolume, owner: (u32, u32), root_read_only: bool) -> Result<(), SystemError> {
    let directory = match &volume.disk {
        Some(disk) => mount_disk(disk)?,
        None => own_directory(&volume.target)?,
    };
    let root = Root::open(ROOT)?;
    let covered = managed::bound_below(&root, &volume.target);
    let is_new_target = !root.exists(&volume.target)?;
    let target = root.directory(&volume.target)?;
    if is_new_target {
        let (uid, gid) = owner;
        chown(fd_path(&target), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(format!("set the owner of {}", volume.target))?;
    }
    let data = match open_data(&directory)? {
        Some(data) => data,
        None => {
            fill(&directory, &fd_path(&target), volume)?;
            let missing = || SystemError::new(format!("open the volume at {}", volume.target), Errno::NOENT);
            open_data(&directory)?.ok_or_else(missing)?
        }
    };
    mount_bind(fd_path(&data), fd_path(&target)).context(format!("mount the volume at {}", volume.target))?;
    // Opened again, since the mount covers the directory.
    let mounted = root.directory(&volume.target)?;
    mount_remount(fd_path(&mounted), MountFlags::BIND | mount_flags(volume), c"")
        .context(format!("set the options of the volume at {}", volume.target))?;
    managed::bind_again(&root, &covered, root_read_only)
}

/// Opens the volume's files, if they are complete. A guest may have put a link in their place, which must not lead the
/// next guest's container to another directory.
fn open_data(directory: &str) -> Result<Option<OwnedFd>, SystemError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(format!("{directory}/{DATA}"), flags, Mode::empty()) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(SystemError::new(format!("open {directory}/{DATA}"), errno)),
    }
}

/// Mounts a volume's disk, unless another mount of the same volume has done so, and returns the mount point.
fn mount_disk(disk: &Disk) -> Result<String, SystemError> {
    let directory = format!("{DISKS}/{}", disk.serial);
    if Path::new(&directory).exists() {
        return Ok(directory);
    }
    boot::create_directory("/run/mimeo")?;
    boot::create_directory(DISKS)?;
    boot::create_directory(&directory)?;
    let mounted = disk::mount_writable_or_read_only(disk, &directory, MountFlags::NOATIME);
    if mounted.is_err() {
        // Otherwise the next mount would take it for mounted. If this fails too, that one reports it.
        std::fs::remove_dir(&directory).ok();
    }
    mounted.map(|()| directory)
}

/// The directory on the writable layer's disk, outside of the layer itself.
fn own_directory(target: &str) -> Result<String, SystemError> {
    let name: String = target.trim_end_matches('/').bytes().map(|byte| format!("{byte:02x}")).collect();
    let directory = format!("{WRITABLE}/{OWN}/{name}");
    boot::create_directory(&format!("{WRITABLE}/{OWN}"))?;
    boot::create_directory(&directory)?;
    Ok(directory)
}

/// Makes the volume's files: those of the directory that it replaces, if that is requested, with its owner and mode.
fn fill(directory: &str, replaced: &str, volume: &DiskVolume) -> Result<(), SystemError> {
    let (draft, data) = (format!("{directory}/{DRAFT}"), format!("{directory}/{DATA}"));
    let action = || format!("set up the volume at {}", volume.target);
    match std::fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(SystemError::new(action(), error));
        }
        _ => boot::create_directory(&draft)?,
    }
    if volume.copy_up {
        archive::copy_content(replaced, &draft)?;
    }
    let metadata = rustix::fs::stat(replaced).context(action())?;
    let (uid, gid) = (metadata.st_uid, metadata.st_gid);
    chown(&draft, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context(action())?;
    chmod(&draft, Mode::from_raw_mode(metadata.st_mode & PERMISSIONS)).context(action())?;
    sync(directory).context(action())?;
    rustix::fs::rename(&draft, &data).context(action())
}

fn mount_flags(volume: &DiskVolume) -> MountFlags {
    let mut flags = MountFlags::NOATIME;
    flags.set(MountFlags::RDONLY, volume.read_only);
    flags.set(MountFlags::NOEXEC, volume.no_exec);
    flags.set(MountFlags::NOSUID, !volume.suid);
    flags.set(MountFlags::NODEV, !volume.dev);
    flags
}

/// Flushes the filesystems of the volumes' own disks.
pub(crate) fn flush() -> Result<(), SystemError> {
    let Ok(mounted) = std::fs::read_dir(DISKS) else { return Ok(()) };
    mounted.flatten().try_for_each(|disk| {
        let path = disk.path();
        sync(&path.to_string_lossy()).context(format!("flush {}", path.display()))
    })
}

fn sync(directory: &str) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::syncfs(&directory)
}
