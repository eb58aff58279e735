//! What all tests share: a kernel and a boot snapshot. The program under test makes them
//! once, and each world links them, since they never change.
//!
//! A world whose first machine boots cold and is then saved needs 3.9 s for that;
//! with the links every machine of the default shape starts warm, in 0.7 s.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::Image;
use crate::qemu::installed_qemu;
use crate::world::{mimeo_program, target};

/// The environment variable that selects Firecracker for root's machines, if the test run names one.
pub(crate) fn firecracker() -> Option<(&'static str, std::ffi::OsString)> {
    std::env::var_os("MIMEO_E2E_FIRECRACKER").map(|program| ("MIMEO_FIRECRACKER", program))
}

/// The shared home and run directory. The first test that calls this sets them up
/// while the others wait for the lock.
fn shared_dir() -> PathBuf {
    let dir = std::env::var_os("MIMEO_E2E_SHARED").map_or_else(|| target().join("e2e/shared"), PathBuf::from);
    fs::create_dir_all(&dir).expect("the target directory is writable");
    let lock = File::create(dir.join("harness.lock")).expect("a lock file");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let (ready, stamp) = (dir.join("ready"), stamp());
    if fs::read_to_string(&ready).is_ok_and(|text| text == stamp) {
        return dir;
    }
    for stale in ["home/snapshots", "home/stencils", "run", "volumes"] {
        remove_stale(&dir.join(stale));
    }
    let image = dir.join("busybox");
    Image::busybox("busybox").write_layout(&image);
    match std::env::var_os("MIMEO_E2E_KERNELS") {
        // For hosts that cannot fetch a kernel.
        Some(kernels) => {
            remove_stale(&dir.join("home/kernels"));
            link_tree(Path::new(&kernels), &dir.join("home/kernels"));
        }
        None => run_mimeo(&dir, &["setup"]),
    }
    let reference = format!("oci:{}:latest", image.display());
    run_mimeo(&dir, &["run", "--rm", &reference, "true"]);
    let volumes = dir.join("volumes");
    link_tree(&dir.join("home/kernels"), &volumes.join("home/kernels"));
    link_tree(&dir.join("run"), &volumes.join("run"));
    run_mimeo(&volumes, &["run", "--rm", "-v", "prepared:/volume", &reference, "true"]);
    fs::write(ready, stamp).expect("written");
    dir
}

/// Removes a directory of an earlier build, if there is one.
fn remove_stale(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        let absent = error.kind() == std::io::ErrorKind::NotFound;
        assert!(absent, "cannot remove {}: {error}", dir.display());
    }
}

fn run_mimeo(dir: &Path, args: &[&str]) {
    let output = Command::new(mimeo_program())
        .args(args)
        .envs(firecracker())
        .env("MIMEO_HOME", dir.join("home"))
        .env("MIMEO_RUN", dir.join("run"))
        .output()
        .expect("mimeo starts");
    assert!(output.status.success(), "mimeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Identifies the build of mimeo, the QEMU and the boot of the host. Another build may hold another agent, another QEMU
/// may refuse the saved state, and another boot may have another clock.
fn stamp() -> String {
    let metadata = fs::metadata(mimeo_program()).expect("mimeo is built");
    let qemu = installed_qemu();
    let built = fs::metadata(&qemu).and_then(|file| file.modified()).expect("QEMU is installed");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    format!("{:?} {} {} {built:?} {boot}", metadata.modified(), metadata.len(), qemu.display())
}

/// Links the shared kernel into `home`.
pub(crate) fn link_kernel(home: &Path) {
    link_tree(&shared_dir().join("home/kernels"), &home.join("kernels"));
}

/// Links the shared boot snapshot into a world.
pub(crate) fn link_boot_snapshot(home: &Path, run: &Path) {
    link_boot_snapshot_of(&shared_dir(), home, run);
}

/// Links the shared boot snapshot of machines with one named volume into a world.
pub(crate) fn link_volume_boot_snapshot(home: &Path, run: &Path) {
    link_boot_snapshot_of(&shared_dir().join("volumes"), home, run);
}

/// Links a boot snapshot, its stencil and its verification records into a world.
fn link_boot_snapshot_of(shared: &Path, home: &Path, run: &Path) {
    link_tree(&shared.join("home/snapshots"), &home.join("snapshots"));
    if shared.join("home/stencils").exists() {
        link_tree(&shared.join("home/stencils"), &home.join("stencils"));
    }
    link_tree(&shared.join("run/verified"), &run.join("verified"));
    copy_if_present(&shared.join("run"), run, "tsc-khz");
    copy_kvm_verdict(run);
}

/// Copies the KVM verdict of root's guests into a world, so that no world repeats the trial.
pub(crate) fn copy_kvm_verdict(run: &Path) {
    copy_if_present(&shared_dir().join("run"), run, "kvm-0.json");
}

fn copy_if_present(from: &Path, to: &Path, name: &str) {
    if from.join(name).exists() {
        fs::copy(from.join(name), to.join(name)).expect("copied");
    }
}

/// Hard-links the files of a directory tree and copies its symbolic links.
fn link_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            link_tree(&source, &target);
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

/// Lock files are not shared: two worlds would wait for each other.
fn is_lock(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".lock")
        || name == ".lock"
        || name.starts_with(".making-")
        || name.starts_with(".building-")
}
