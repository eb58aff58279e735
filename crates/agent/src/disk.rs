//! Disks, found by the serial number that the host gave them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::Disk;
use rustix::mount::MountFlags;

use crate::failure::{Context, SystemError};

/// How long the kernel may take to show a disk: its driver may just have come.
const DEADLINE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(1);

/// Waits for a disk and mounts its filesystem.
pub(crate) fn mount(disk: &Disk, target: &str, flags: MountFlags) -> Result<(), SystemError> {
    let device = wait(&disk.serial)?;
    rustix::mount::mount(&device, target, &*disk.filesystem, flags, c"")
        .context(format!("mount the disk {} ({})", disk.serial, disk.filesystem))
}

fn wait(serial: &str) -> Result<PathBuf, SystemError> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(device) = find(serial) {
            return Ok(device);
        }
        if Instant::now() > end {
            return Err(SystemError::new(format!("find the disk {serial}"), rustix::io::Errno::NODEV));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn find(serial: &str) -> Option<PathBuf> {
    let disks = std::fs::read_dir("/sys/block").ok()?;
    disks.flatten().find_map(|disk| {
        let theirs = std::fs::read_to_string(disk.path().join("serial")).ok()?;
        (theirs.trim() == serial).then(|| PathBuf::from("/dev").join(disk.file_name()))
    })
}
