//! Paths of /proc and /sys that a container without full privileges may not use, as podman has them.
//!
//! Without this, root in the container could reach the whole guest through files that the kernel
//! protects by their owner alone: kernel.core_pattern starts a program outside the container.

use std::ffi::CStr;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

/// Paths whose content is hidden, relative to the container's root.
const MASKED: [&CStr; 11] = [
    c"proc/acpi",
    c"proc/kcore",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
    c"proc/scsi",
    c"sys/firmware",
    c"sys/fs/selinux",
    c"sys/dev/block",
];
/// Paths that are read-only.
const READ_ONLY: [&CStr; 6] =
    [c"proc/asound", c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];
const RESTRICTED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The container's cgroup, which is mounted already.
const CGROUP: &CStr = c"sys/fs/cgroup";

/// Hides and write-protects the paths. The working directory is the container's root.
pub(super) fn apply() -> rustix::io::Result<()> {
    remount_read_only(CGROUP)?;
    READ_ONLY.iter().try_for_each(|path| skip_missing(make_read_only(path)))?;
    MASKED.iter().try_for_each(|path| skip_missing(mask(path)))
}

/// Makes a part of a filesystem read-only.
fn make_read_only(path: &CStr) -> rustix::io::Result<()> {
    mount_bind(path, path)?;
    remount_read_only(path)
}

fn remount_read_only(path: &CStr) -> rustix::io::Result<()> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | RESTRICTED, c"")
}

fn mask(path: &CStr) -> rustix::io::Result<()> {
    match mount_bind(c"dev/null", path) {
        Err(Errno::NOTDIR) => mount(c"tmpfs", path, c"tmpfs", RESTRICTED | MountFlags::RDONLY, c""),
        result => result,
    }
}

fn skip_missing(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        // The kernel does not have it.
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}
