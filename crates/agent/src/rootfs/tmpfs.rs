//! Temporary filesystems that the user requested.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use mimeo_agent_protocol::message::Tmpfs;
use rustix::fs::{Gid, Mode, Stat, Uid, chmod, chown, fstat};
use rustix::mount::{MountFlags, mount_move, mount_remount};

use super::{Root, fd_path};
use crate::archive;
use crate::boot;
use crate::failure::{Context, SystemError};

/// Where a filesystem is mounted until its content is complete.
const STAGING: &str = "/run/mimeo/tmpfs";
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Mounts all of them; one below another last.
pub(super) fn mount_all(root: &Root, list: &[Tmpfs]) -> Result<(), SystemError> {
    let mut sorted: Vec<&Tmpfs> = list.iter().collect();
    sorted.sort_by(|a, b| a.target.cmp(&b.target));
    sorted.into_iter().try_for_each(|tmpfs| mount(root, tmpfs))
}

fn mount(root: &Root, tmpfs: &Tmpfs) -> Result<(), SystemError> {
    let target = root.directory(&tmpfs.target)?;
    let replaced = fstat(&target).context(format!("stat {}", tmpfs.target))?;
    boot::create_directory(STAGING)?;
    let flags = mount_flags(tmpfs);
    let options = CString::new(tmpfs.options.clone()).unwrap_or_default();
    boot::mount_filesystem("tmpfs", STAGING, flags, &options)?;
    fill(tmpfs, &target, &replaced)?;
    if tmpfs.read_only {
        mount_remount(STAGING, MountFlags::BIND | MountFlags::RDONLY | flags, c"")
            .context(format!("make {} read-only", tmpfs.target))?;
    }
    mount_move(STAGING, fd_path(&target)).context(format!("mount a tmpfs on {}", tmpfs.target))
}

fn mount_flags(tmpfs: &Tmpfs) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NOSUID, !tmpfs.suid);
    flags.set(MountFlags::NODEV, !tmpfs.dev);
    flags.set(MountFlags::NOEXEC, tmpfs.no_exec);
    flags
}

/// Copies the replaced directory's content, and its owner and mode unless the options give them.
fn fill(tmpfs: &Tmpfs, target: &OwnedFd, replaced: &Stat) -> Result<(), SystemError> {
    if tmpfs.copy_up {
        archive::copy_content(&fd_path(target), STAGING)?;
    }
    let gives = |name: &str| tmpfs.options.split(',').any(|option| option.starts_with(name));
    let action = || format!("set the owner and mode of {}", tmpfs.target);
    if !gives("uid=") && !gives("gid=") {
        let owner = (Uid::from_raw(replaced.st_uid), Gid::from_raw(replaced.st_gid));
        chown(STAGING, Some(owner.0), Some(owner.1)).context(action())?;
    }
    if !gives("mode=") {
        chmod(STAGING, Mode::from_raw_mode(replaced.st_mode & PERMISSIONS)).context(action())?;
    }
    Ok(())
}
