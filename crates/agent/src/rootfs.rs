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
use crate::names::Names;
use crate::told;
pub(crate) use devices::terminal;
pub(crate) use path::{Root, of as path_of};

/// Where the agent sees the container's root.
pub(crate) const ROOT: &str = "/run/mimeo/root";
pub(crate) const IMAGE: &str = "/run/mimeo/image";
/// Where the writable layer's filesystem is mounted.
pub(crate) const WRITABLE: &str = "/run/mimeo/writable";

/// Mounts the disks, joins them, and furnishes the root.
pub(crate) fn prepare(configure: &Configure) -> Result<(), SystemError> {
    for directory in ["/run/mimeo", IMAGE, WRITABLE, ROOT] {
        boot::directory(directory)?;
    }
    disk::mount(&configure.image, IMAGE, MountFlags::RDONLY)?;
    match &configure.writable {
        Some(disk) => disk::mount(disk, WRITABLE, MountFlags::NOATIME)?,
        // Mount points must be made somewhere; `start` then forbids writes.
        None => boot::filesystem("tmpfs", WRITABLE, MountFlags::empty(), c"mode=0755")?,
    }
    join()?;
    let root = Root::open(ROOT)?;
    kernel_filesystems(&root)?;
    devices::furnish(&root)?;
    managed::write(&Names::from(configure))?;
    managed::bind(&root)?;
    told::bind(&root)
}

fn join() -> Result<(), SystemError> {
    let (upper, work) = (format!("{WRITABLE}/upper"), format!("{WRITABLE}/work"));
    if stat(&upper).is_err() {
        like_the_image(&upper)?;
        hide_ext4s_own(&upper)?;
    }
    boot::directory(&work)?;
    let options = format!("lowerdir={IMAGE},upperdir={upper},workdir={work},metacopy=off");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount("overlay", ROOT, "overlay", MountFlags::empty(), &*options).context("join image and writable layer")
}

/// The joined root shows the owner and mode of the upper directory.
fn like_the_image(upper: &str) -> Result<(), SystemError> {
    let image = stat(IMAGE).context("look at the image's root")?;
    boot::directory(upper)?;
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
fn hide_ext4s_own(upper: &str) -> Result<(), SystemError> {
    let whiteout = format!("{upper}/lost+found");
    mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).context("hide lost+found")
}

/// `/sys`; `/proc` and the rest belong to namespaces that the container's process makes.
fn kernel_filesystems(root: &Root) -> Result<(), SystemError> {
    root.directory("/proc")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    devices::over(root, "/sys", "sysfs", flags, c"")
}

/// Writes to the disk what has not been written yet. Only the one filesystem
/// that can be written: a volume's would wait for the host, which may be
/// holding still itself.
pub(crate) fn flush() -> Result<(), SystemError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let writable = rustix::fs::open(WRITABLE, flags, Mode::empty()).context("open the writable layer")?;
    rustix::fs::syncfs(&writable).context("flush the writable layer")
}
