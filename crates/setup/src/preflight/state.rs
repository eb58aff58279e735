//! mimeo's own directories: writable, with enough space, a kernel and an initramfs.

use std::fs;
use std::path::Path;

use super::{Check, Directories};
use crate::initramfs;
use crate::kernel::Kernel;

const MIB: u64 = 1 << 20;
/// Enough for a kernel, an image and a machine's disk.
const MIN_DISK_MIB: u64 = 2048;

pub(super) fn checks(directories: Directories<'_>) -> Vec<Check> {
    let mut checks = vec![
        writable("home-directory", directories.home),
        writable("run-directory", directories.run),
        free_disk(directories.home),
    ];
    checks.extend(kernel(directories.home));
    checks
}

/// Creates a temporary file rather than reading modes: the filesystem may be read-only or full.
fn writable(name: &'static str, dir: &Path) -> Check {
    let probe = fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir));
    match probe {
        Ok(_) => Check::ok(name, format!("{} is writable", dir.display())),
        Err(error) => Check::missing(
            name,
            format!("{} cannot be written to: {error}", dir.display()),
            format!("install -d -o \"$(id -u)\" {}   # as root", dir.display()),
        ),
    }
}

fn free_disk(home: &Path) -> Check {
    const NAME: &str = "disk";
    let existing = home.ancestors().find(|dir| dir.exists()).unwrap_or(home);
    let Ok(stat) = rustix::fs::statvfs(existing) else {
        return Check::limited(NAME, format!("cannot read the free space of {}", existing.display()), None);
    };
    let free = stat.f_bavail * stat.f_frsize / MIB;
    let detail = format!("{free} MiB free in {}", existing.display());
    if free >= MIN_DISK_MIB {
        Check::ok(NAME, detail)
    } else {
        Check::missing(NAME, detail, free_space_hint())
    }
}

fn free_space_hint() -> String {
    format!("free {MIN_DISK_MIB} MiB, or set MIMEO_HOME to a directory on a larger filesystem")
}

fn kernel(home: &Path) -> Vec<Check> {
    match Kernel::load(home) {
        Ok(kernel) => vec![Check::ok("kernel", describe(&kernel)), initramfs(&kernel)],
        Err(error) => {
            vec![Check::missing("kernel", error.to_string(), "mimeo setup kernel"), no_initramfs()]
        }
    }
}

fn describe(kernel: &Kernel) -> String {
    format!("{} (Linux {})", kernel.manifest.name, kernel.manifest.release)
}

/// Limited, not missing: the first machine builds it.
fn initramfs(kernel: &Kernel) -> Check {
    if initramfs::exists(kernel) { Check::ok("initramfs", "built") } else { no_initramfs() }
}

fn no_initramfs() -> Check {
    Check::limited(
        "initramfs",
        "not built yet: the first machine will build it",
        Some("mimeo setup rootfs".to_owned()),
    )
}
