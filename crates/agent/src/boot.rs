//! The first steps of PID 1: a root of its own and the kernel's filesystems.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{Resource, Rlimit, chdir, chroot, setrlimit, umask};

use crate::failure::{Context, SystemError};

/// Limit of open files of a process (RLIMIT_NOFILE), as podman sets it for its containers.
const OPEN_FILES: u64 = 1_048_576;

/// A guest whose kernel filesystems are mounted.
#[derive(Debug)]
pub(crate) struct Booted {
    /// The initramfs. It holds the kernel modules, and the new root is mounted over it.
    pub(crate) initramfs: OwnedFd,
}

/// Mounts the kernel's filesystems on a new root: the kernel refuses
/// `pivot_root` to a process whose root is the initramfs.
pub(crate) fn prepare() -> Result<Booted, SystemError> {
    umask(Mode::empty());
    let initramfs = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open the initramfs")?;
    create_directory("/base")?;
    mount_filesystem("tmpfs", "/base", MountFlags::empty(), c"mode=0755")?;
    let restricted = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (name, flags, data) in [
        ("proc", restricted, c""),
        ("sysfs", restricted, c""),
        ("devtmpfs", MountFlags::NOSUID, c"mode=0755"),
        ("tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"),
    ] {
        let target = match name {
            "proc" => "/base/proc",
            "sysfs" => "/base/sys",
            "devtmpfs" => "/base/dev",
            _ => "/base/run",
        };
        create_directory(target)?;
        mount_filesystem(name, target, flags, data)?;
    }
    chdir("/base").context("enter the new root")?;
    mount_move(".", "/").context("move the new root to /")?;
    chroot(".").context("change the root")?;
    chdir("/").context("enter /")?;
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    // A kernel with a lower fs.nr_open keeps its own limit.
    setrlimit(Resource::Nofile, limit).ok();
    Ok(Booted { initramfs })
}

/// Creates a directory, if it does not exist.
pub(crate) fn create_directory(path: &str) -> Result<(), SystemError> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(SystemError::new(format!("create {path}"), errno)),
    }
}

/// Mounts one of the kernel's own filesystems.
pub(crate) fn mount_filesystem(
    name: &str,
    target: &str,
    flags: MountFlags,
    data: &std::ffi::CStr,
) -> Result<(), SystemError> {
    mount(name, target, name, flags, data).context(format!("mount {name} on {target}"))
}
