//! The container's `/dev`.

use mimeo_agent_protocol::message::ContainerSetup;
use rustix::fs::{FileType, Mode, makedev, mknodat, openat, symlinkat};
use rustix::mount::MountFlags;

use super::{ROOT, Root, guest_devices, path};
use crate::boot;
use crate::failure::{Context, SystemError};

/// The devices that the OCI runtime specification requires: major, minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Size of /dev/shm, as podman's.
const SHM_BYTES: u64 = 64 << 20;

/// Mounts and populates `/dev`. The container has its own devpts instance.
pub(super) fn populate_dev(root: &Root, setup: &ContainerSetup) -> Result<(), SystemError> {
    mount_over(root, "/dev", "tmpfs", MountFlags::NOSUID, c"mode=0755,size=65536k")?;
    // Opened again, since the mount covers the directory that was opened for it.
    let dev = root.directory("/dev")?;
    for (name, major, minor) in NODES {
        mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))
            .context(format!("create /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).context(format!("create /dev/{name}"))?;
    }
    let restricted = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_over(root, "/dev/pts", "devpts", restricted, c"newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    let shm = format!("mode=1777,size={}", setup.shm_bytes.unwrap_or(SHM_BYTES));
    let shm = std::ffi::CString::new(shm).unwrap_or_default();
    mount_over(root, "/dev/shm", "tmpfs", restricted | MountFlags::NODEV, &shm)?;
    if setup.whole_guest {
        guest_devices::create_all(&dev)?;
    }
    root.directory("/dev/mqueue").map(drop)
}

/// Mounts one of the kernel's own filesystems on a directory below the root.
pub(super) fn mount_over(
    root: &Root,
    directory: &str,
    name: &str,
    flags: MountFlags,
    data: &std::ffi::CStr,
) -> Result<(), SystemError> {
    let target = root.directory(directory)?;
    boot::mount_filesystem(name, &path::fd_path(&target), flags, data)
}

/// Opens the master of a new terminal of the container, and returns the name of the other end.
pub(crate) fn open_terminal() -> Result<(std::os::fd::OwnedFd, std::ffi::CString), SystemError> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = openat(rustix::fs::CWD, format!("{ROOT}/dev/pts/ptmx"), flags, Mode::empty())
        .context("open a terminal")?;
    rustix::pty::unlockpt(&master).context("unlock the terminal")?;
    let name = rustix::pty::ptsname(&master, Vec::new()).context("read the terminal's name")?;
    Ok((master, name))
}
