//! Disks, found by the serial number that the host gave them, or by their position.
#![allow(unsafe_code, reason = "the ioctl that reads a disk's partitions has no safe form")]

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::Disk;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::failure::{Context, SystemError};

/// Timeout until a disk appears: its driver may have been loaded just now.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Waits for a disk and mounts its filesystem.
pub(crate) fn mount(disk: &Disk, target: &str, flags: MountFlags) -> Result<(), SystemError> {
    let device = wait_for_device(disk)?;
    rustix::mount::mount(&device, target, &*disk.filesystem, flags, c"")
        .context(format!("mount the disk {} ({})", disk.serial, disk.filesystem))
}

/// As [`mount`]; a disk that the host gave read-only is mounted read-only.
pub(crate) fn mount_writable_or_read_only(
    disk: &Disk,
    target: &str,
    flags: MountFlags,
) -> Result<(), SystemError> {
    let device = wait_for_device(disk)?;
    let mount = |flags| rustix::mount::mount(&device, target, &*disk.filesystem, flags, c"");
    let mounted = match mount(flags) {
        Err(Errno::ACCESS | Errno::ROFS) => mount(flags | MountFlags::RDONLY),
        mounted => mounted,
    };
    mounted.context(format!("mount the disk {} ({})", disk.serial, disk.filesystem))
}

/// Waits for a disk.
pub(crate) fn wait_for_device(disk: &Disk) -> Result<PathBuf, SystemError> {
    let end = Instant::now() + DISK_TIMEOUT;
    loop {
        if let Some(device) = find(disk) {
            return Ok(device);
        }
        if Instant::now() > end {
            return Err(SystemError::new(format!("find the disk {}", disk.serial), Errno::NODEV));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

mod ioctl {
    nix::ioctl_none!(
        /// `BLKRRPART` of linux/fs.h.
        read_partitions, 0x12, 95
    );
}

/// Has the kernel read a disk's partition table.
pub(crate) fn read_partitions(disk: &Path) -> Result<(), SystemError> {
    let action = || format!("read the partitions of {}", disk.display());
    let file = std::fs::File::open(disk).context(action())?;
    // SAFETY: takes an open file of a block device, and no argument.
    unsafe { ioctl::read_partitions(file.as_raw_fd()) }.context(action())?;
    Ok(())
}

fn find(disk: &Disk) -> Option<PathBuf> {
    match disk.position {
        Some(position) => by_position(position),
        None => by_serial(&disk.serial),
    }
}

/// The kernel names virtio disks in the order in which it finds them, which is the host's order.
fn by_position(position: u32) -> Option<PathBuf> {
    let letter = char::from(b'a' + u8::try_from(position).ok().filter(|position| *position < 26)?);
    let path = PathBuf::from(format!("/dev/vd{letter}"));
    path.exists().then_some(path)
}

fn by_serial(serial: &str) -> Option<PathBuf> {
    let disks = std::fs::read_dir("/sys/block").ok()?;
    disks.flatten().find_map(|disk| {
        let found = std::fs::read_to_string(disk.path().join("serial")).ok()?;
        (found.trim() == serial).then(|| PathBuf::from("/dev").join(disk.file_name()))
    })
}
