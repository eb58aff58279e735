//! Mounts volumes. This must run on threads that may block: a path may lead through
//! a volume that was mounted before.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use mimeo_agent_protocol::message::Volume;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount_bind};

use crate::boot;
use crate::failure::{Context, SystemError};
use crate::rootfs::{ROOT, Root, fd_path};

/// The mount points of volumes of which only one file is bound into the container.
const HIDDEN: &str = "/run/mimeo/volumes";
/// Largest read request of the kernel: half of a stream's flow-control window.
const MAX_READ: usize = 128 * 1024;

/// Mounts a volume, and returns the FUSE device that the kernel sends its requests to.
pub(super) fn mount(volume: &Volume) -> Result<OwnedFd, SystemError> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/fuse")?;
    match &volume.file {
        None => {
            let target = Root::open(ROOT)?.directory(&volume.target)?;
            mount_fuse(&device, &fd_path(&target), volume.read_only)?;
        }
        Some(_) => {
            let hidden = hidden_directory(&volume.target);
            boot::create_directory(HIDDEN)?;
            boot::create_directory(&hidden)?;
            mount_fuse(&device, &hidden, volume.read_only)?;
        }
    }
    Ok(device)
}

/// Binds the one file of a volume to its target.
pub(super) fn bind_file(volume: &Volume) -> Result<(), SystemError> {
    let Some(file) = &volume.file else { return Ok(()) };
    let target = Root::open(ROOT)?.file(&volume.target)?;
    let source = format!("{}/{file}", hidden_directory(&volume.target));
    mount_bind(source, fd_path(&target)).context(format!("bind {}", volume.target))
}

fn mount_fuse(device: &OwnedFd, target: &str, read_only: bool) -> Result<(), SystemError> {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_READ}",
        device.as_raw_fd()
    );
    let options = CString::new(options).unwrap_or_default();
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, read_only);
    boot::mount_filesystem("fuse", target, flags, &options)
}

/// The mount point for a target, different for each.
fn hidden_directory(target: &str) -> String {
    let name: String = target.bytes().map(|byte| format!("{byte:02x}")).collect();
    let name = &name[name.len().saturating_sub(250)..];
    format!("{HIDDEN}/{name}")
}
