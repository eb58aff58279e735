//! The kernel that all tests share: set up once, linked into each home.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::world::{binary, target};

/// The `kernels` directory of a home that was set up; made by the first test
/// that asks, while the others wait.
fn shared() -> PathBuf {
    let home = target().join("e2e/home");
    fs::create_dir_all(&home).expect("the target directory is ours");
    let lock = File::create(home.join("harness.lock")).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let (ready, stamp) = (home.join("ready"), stamp());
    if fs::read_to_string(&ready).is_ok_and(|text| text == stamp) {
        return home.join("kernels");
    }
    let output = Command::new(binary())
        .args(["setup"])
        .env("MIMEO_HOME", &home)
        .env("MIMEO_RUN", home.join("run"))
        .output()
        .expect("mimeo runs");
    assert!(output.status.success(), "mimeo setup: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(ready, stamp).expect("written");
    home.join("kernels")
}

/// Which build of mimeo set it up: another may carry another agent.
fn stamp() -> String {
    let metadata = fs::metadata(binary()).expect("mimeo is there");
    format!("{:?} {}", metadata.modified(), metadata.len())
}

/// Gives `home` the shared kernel.
pub(crate) fn install(home: &Path) {
    copy(&shared(), &home.join("kernels"));
}

/// Links files and copies links: a kernel's files never change.
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
        } else if source.extension().is_none_or(|extension| extension != "lock") {
            fs::hard_link(&source, &target)
                .or_else(|_| fs::copy(&source, &target).map(drop))
                .expect("linked or copied");
        }
    }
}
