//! The container's root: the image and the writable layer, joined, and what
//! every container finds in it.

mod devices;
pub(crate) mod managed;
mod path;

use mimeo_agent_protocol::message::Configure;
use rustix::fs::{CWD, FileType, Mode, OFlags, chmod, chown, mknodat, stat};
use rustix::mount::{MountFlags, mount};

use crate::boot;
use crate::disk;
use crate::failure::{Context, SystemError};
use crate::metadata;
use crate::names::Names;
pub(crate) use devices::open_terminal;
pub(crate) use path::{Root, fd_path};

/// Where the agent sees the container's root.
pub(crate) const ROOT: &str = "/run/mimeo/root";
pub(crate) const IMAGE: &str = "/run/mimeo/image";
/// Where the writable layer's filesystem is mounted.
pub(crate) const WRITABLE: &str = "/run/mimeo/writable";

/// Mounts the disks, joins them, and furnishes the root.
pub(crate) fn prepare(configure: &Configure) -> Result<(), SystemError> {
    for directory in ["/run/mimeo", IMAGE, WRITABLE, ROOT] {
        boot::create_directory(directory)?;
    }
    disk::mount(&configure.image, IMAGE, MountFlags::RDONLY)?;
    match &configure.writable {
        Some(disk) => disk::mount(disk, WRITABLE, MountFlags::NOATIME)?,
        // Mount points must be made somewhere; `start` then forbids writes.
        None => boot::mount_filesystem("tmpfs", WRITABLE, MountFlags::empty(), c"mode=0755")?,
    }
    mount_overlay()?;
    let root = Root::open(ROOT)?;
    mount_sysfs(&root)?;
    devices::populate_dev(&root)?;
    managed::write(&Names::from(configure))?;
    managed::bind(&root)?;
    metadata::bind(&root)
}

fn mount_overlay() -> Result<(), SystemError> {
    let (upper, work) = (format!("{WRITABLE}/upper"), format!("{WRITABLE}/work"));
    if stat(&upper).is_err() {
        create_upper(&upper)?;
        hide_lost_and_found(&upper)?;
    }
    boot::create_directory(&work)?;
    let options = format!("lowerdir={IMAGE},upperdir={upper},workdir={work},metacopy=off");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount("overlay", ROOT, "overlay", MountFlags::empty(), &*options).context("mount the overlay")
}

/// The joined root shows the owner and mode of the upper directory.
fn create_upper(upper: &str) -> Result<(), SystemError> {
    let image = stat(IMAGE).context("look at the image's root")?;
    boot::create_directory(upper)?;
    chown(
        upper,
        Some(rustix::fs::Uid::from_raw(image.st_uid)),
        Some(rustix::fs::Gid::from_raw(image.st_gid)),
    )
    .context("give the writable layer its owner")?;
    chmod(upper, Mode::from_raw_mode(image.st_mode)).context("give the writable layer its mode")
}

/// Every ext4 filesystem has a `lost+found`, which no image put there. A
/// whiteout hides it: to overlayfs that is a device with the number zero.
fn hide_lost_and_found(upper: &str) -> Result<(), SystemError> {
    let whiteout = format!("{upper}/lost+found");
    mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).context("hide lost+found")
}

/// `/sys`; `/proc` and the rest belong to namespaces that the container's process makes.
fn mount_sysfs(root: &Root) -> Result<(), SystemError> {
    root.directory("/proc")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    devices::mount_over(root, "/sys", "sysfs", flags, c"")
}

/// Writes to the disk what has not been written yet. Only the one filesystem
/// that can be written: a volume's would wait for the host, which may be
/// holding still itself.
pub(crate) fn flush() -> Result<(), SystemError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let writable = rustix::fs::open(WRITABLE, flags, Mode::empty()).context("open the writable layer")?;
    rustix::fs::syncfs(&writable).context("flush the writable layer")
}
