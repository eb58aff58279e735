//! The container's root: an overlay of the image and the writable layer, with the
//! files and filesystems that every container has.

mod devices;
mod guest_devices;
pub(crate) mod managed;
mod path;
mod tmpfs;

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

/// The mount point of the container's root, in the agent's namespace.
pub(crate) const ROOT: &str = "/run/mimeo/root";
pub(crate) const IMAGE: &str = "/run/mimeo/image";
/// The mount point of the writable layer's filesystem.
pub(crate) const WRITABLE: &str = "/run/mimeo/writable";

/// Mounts the disks and the overlay, and sets up the root.
pub(crate) fn prepare(configure: &Configure) -> Result<(), SystemError> {
    for directory in ["/run/mimeo", IMAGE, WRITABLE, ROOT] {
        boot::create_directory(directory)?;
    }
    disk::mount(&configure.image, IMAGE, MountFlags::RDONLY)?;
    match &configure.writable {
        Some(disk) => disk::mount(disk, WRITABLE, MountFlags::NOATIME)?,
        // Mount points need a writable layer too; `start` then makes the root read-only.
        None => boot::mount_filesystem("tmpfs", WRITABLE, MountFlags::empty(), c"mode=0755")?,
    }
    let setup = &configure.setup;
    mount_overlay(setup.whole_guest)?;
    let root = Root::open(ROOT)?;
    mount_sysfs(&root, setup.whole_guest)?;
    devices::populate_dev(&root, setup)?;
    tmpfs::mount_all(&root, &setup.tmpfs)?;
    managed::write(&Names::from(configure))?;
    managed::bind(&root, setup)?;
    if let Some(content) = &setup.local_time {
        managed::bind_local_time(&root, content, setup.read_only)?;
    }
    metadata::bind(&root)
}

/// Mounts the root. Device nodes of the image can be used only with `devices`: they would give any user of the
/// container the guest's disks. /dev is a filesystem of its own.
fn mount_overlay(devices: bool) -> Result<(), SystemError> {
    let (upper, work) = (format!("{WRITABLE}/upper"), format!("{WRITABLE}/work"));
    if stat(&upper).is_err() {
        create_upper(&upper)?;
        hide_lost_and_found(&upper)?;
    }
    boot::create_directory(&work)?;
    let options = format!("lowerdir={IMAGE},upperdir={upper},workdir={work},metacopy=off");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let flags = if devices { MountFlags::empty() } else { MountFlags::NODEV };
    mount("overlay", ROOT, "overlay", flags, &*options).context("mount the overlay")
}

/// Creates the upper directory with the image's owner and mode: the overlay's root shows those of the
/// upper directory.
fn create_upper(upper: &str) -> Result<(), SystemError> {
    let image = stat(IMAGE).context("stat the image's root")?;
    boot::create_directory(upper)?;
    chown(
        upper,
        Some(rustix::fs::Uid::from_raw(image.st_uid)),
        Some(rustix::fs::Gid::from_raw(image.st_gid)),
    )
    .context("set the owner of the writable layer")?;
    chmod(upper, Mode::from_raw_mode(image.st_mode)).context("set the mode of the writable layer")
}

/// Hides the `lost+found` that every ext4 filesystem has and no image contains, by a
/// whiteout: in overlayfs that is a device with the number zero.
fn hide_lost_and_found(upper: &str) -> Result<(), SystemError> {
    let whiteout = format!("{upper}/lost+found");
    mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).context("hide lost+found")
}

/// Mounts `/sys`. `/proc` and others belong to the namespaces of the container's process, which mounts them.
fn mount_sysfs(root: &Root, writable: bool) -> Result<(), SystemError> {
    root.directory("/proc")?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    flags.set(MountFlags::RDONLY, !writable);
    devices::mount_over(root, "/sys", "sysfs", flags, c"")
}

/// Flushes the writable layer's filesystem, and no other: flushing a directory of the host would wait for the host,
/// which may be frozen itself.
pub(crate) fn flush() -> Result<(), SystemError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let writable = rustix::fs::open(WRITABLE, flags, Mode::empty()).context("open the writable layer")?;
    rustix::fs::syncfs(&writable).context("flush the writable layer")
}
