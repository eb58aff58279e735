//! Debian's cloud kernel, fetched once through apt.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::run;

/// The kernel, and the directory of its modules.
pub fn get() -> (PathBuf, PathBuf) {
    static KERNEL: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    KERNEL.get_or_init(|| find().unwrap_or_else(fetch)).clone()
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-cloud-kernel")
}

fn find() -> Option<(PathBuf, PathBuf)> {
    let only = |directory: &str| -> Option<PathBuf> {
        let entries = std::fs::read_dir(home().join(directory)).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains("-cloud-amd64") && !name.starts_with("config") && !name.starts_with("System")
        })
    };
    Some((only("boot")?, only("lib/modules")?.join("kernel")))
}

fn fetch() -> (PathBuf, PathBuf) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let depends = Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).output();
    let depends = String::from_utf8(depends.expect("apt-cache runs").stdout).expect("utf-8");
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let package = format!("linux-image-{}", package.expect("apt knows linux-image-cloud-amd64"));
    run(Command::new("apt-get").args(["download", &package]).current_dir(scratch.path()));
    let mut files = std::fs::read_dir(scratch.path()).expect("the directory").flatten();
    let file = files.next().expect("a package").path();
    let unpacked = scratch.path().join("unpacked");
    run(Command::new("dpkg").arg("-x").arg(file).arg(&unpacked));
    // Fails when another test was faster: its copy is as good.
    std::fs::rename(unpacked, home()).ok();
    find().expect("a kernel in the package")
}

/// The host's CPU clock in kHz: an emulated guest cannot measure it.
pub fn host_khz() -> u64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
    let line = info.lines().find(|line| line.starts_with("cpu MHz")).expect("a clock");
    let mhz: f64 = line.split(':').nth(1).and_then(|mhz| mhz.trim().parse().ok()).expect("a number");
    (mhz * 1000.0) as u64
}
