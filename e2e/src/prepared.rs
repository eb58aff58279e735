//! What all tests share: a kernel, and a guest that has booted. Made once by
//! the program under test, linked into each world, as all of it never changes.
//!
//! A world whose first machine boots cold and is then kept takes 3.9 s for it;
//! with the links every machine of the usual shape is warm, and takes 0.7 s.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::Image;
use crate::qemu::installed_qemu;
use crate::world::{binary, target};

/// The Firecracker that root's machines are to run on, where a run of the tests names one.
pub(crate) fn firecracker() -> Option<(&'static str, std::ffi::OsString)> {
    std::env::var_os("MIMEO_E2E_FIRECRACKER").map(|program| ("MIMEO_FIRECRACKER", program))
}

/// A home and a run directory that were set up; made by the first test that
/// asks, while the others wait.
fn shared() -> PathBuf {
    let dir = std::env::var_os("MIMEO_E2E_SHARED").map_or_else(|| target().join("e2e/shared"), PathBuf::from);
    fs::create_dir_all(&dir).expect("the target directory is ours");
    let lock = File::create(dir.join("harness.lock")).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let (ready, stamp) = (dir.join("ready"), stamp());
    if fs::read_to_string(&ready).is_ok_and(|text| text == stamp) {
        return dir;
    }
    for stale in ["home/snapshots", "home/stencils", "run"] {
        fs::remove_dir_all(dir.join(stale)).ok();
    }
    let image = dir.join("busybox");
    Image::busybox("busybox").write_layout(&image);
    match std::env::var_os("MIMEO_E2E_KERNELS") {
        // Where none can be fetched.
        Some(kernels) => {
            fs::remove_dir_all(dir.join("home/kernels")).ok();
            copy(Path::new(&kernels), &dir.join("home/kernels"));
        }
        None => mimeo(&dir, &["setup"]),
    }
    mimeo(&dir, &["run", "--rm", &format!("oci:{}:latest", image.display()), "true"]);
    fs::write(ready, stamp).expect("written");
    dir
}

fn mimeo(dir: &Path, args: &[&str]) {
    let output = Command::new(binary())
        .args(args)
        .envs(firecracker())
        .env("MIMEO_HOME", dir.join("home"))
        .env("MIMEO_RUN", dir.join("run"))
        .output()
        .expect("mimeo runs");
    assert!(output.status.success(), "mimeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Which build of mimeo made it, with which QEMU, and on which boot of the host: another may carry another agent,
/// refuse the saved state, or find another clock.
fn stamp() -> String {
    let metadata = fs::metadata(binary()).expect("mimeo is there");
    let qemu = installed_qemu();
    let built = fs::metadata(&qemu).and_then(|file| file.modified()).expect("QEMU is there");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    format!("{:?} {} {} {built:?} {boot}", metadata.modified(), metadata.len(), qemu.display())
}

/// Gives `home` the shared kernel.
pub(crate) fn kernel(home: &Path) {
    copy(&shared().join("home/kernels"), &home.join("kernels"));
}

/// Gives a world the shared guest, and what is known of its files.
pub(crate) fn guest(home: &Path, run: &Path) {
    let shared = shared();
    copy(&shared.join("home/snapshots"), &home.join("snapshots"));
    if shared.join("home/stencils").exists() {
        copy(&shared.join("home/stencils"), &home.join("stencils"));
    }
    copy(&shared.join("run/verified"), &run.join("verified"));
    copy_if_there(&shared.join("run"), run, "tsc-khz");
    verdict(run);
}

/// Gives a world what root's guests have proved of KVM, so that not each tries it.
pub(crate) fn verdict(run: &Path) {
    copy_if_there(&shared().join("run"), run, "kvm-0.json");
}

fn copy_if_there(from: &Path, to: &Path, name: &str) {
    if from.join(name).exists() {
        fs::copy(from.join(name), to.join(name)).expect("copied");
    }
}

/// Links files and copies links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy(&source, &target);
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).expect("a link");
            std::os::unix::fs::symlink(link, &target).expect("linked");
        } else if !is_lock(&source) {
            fs::hard_link(&source, &target)
                .or_else(|_| fs::copy(&source, &target).map(drop))
                .expect("linked or copied");
        }
    }
}

/// A lock that two worlds shared would let one wait for the other.
fn is_lock(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".lock")
        || name == ".lock"
        || name.starts_with(".making-")
        || name.starts_with(".building-")
}
