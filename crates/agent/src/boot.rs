//! The first instructions: a root of our own and the kernel's filesystems.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{Resource, Rlimit, chdir, chroot, setrlimit, umask};

use crate::failure::{Context, SystemError};

/// Open files that a process may have, as podman gives its containers.
const OPEN_FILES: u64 = 1_048_576;

/// A guest whose kernel filesystems are mounted.
#[derive(Debug)]
pub(crate) struct Booted {
    /// The initramfs, which holds the kernel's modules and lies below our root now.
    pub(crate) initramfs: OwnedFd,
}

/// Mounts what the kernel offers, on a root that is not the initramfs: the
/// kernel refuses `pivot_root` to whoever has that for a root.
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
    mount_move(".", "/").context("move the new root into its place")?;
    chroot(".").context("make it the root")?;
    chdir("/").context("enter the root")?;
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    // A kernel with a lower fs.nr_open keeps its own limit.
    setrlimit(Resource::Nofile, limit).ok();
    Ok(Booted { initramfs })
}

/// A directory that may be there already.
pub(crate) fn create_directory(path: &str) -> Result<(), SystemError> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(SystemError::new(format!("make {path}"), errno)),
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
