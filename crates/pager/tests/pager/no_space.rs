//! A full disk: each test runs again in its own mount namespace, on a filesystem of 1 MiB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mimeo_pager::{Capture, FileError, PAGE, PagerError, Pages, flatten};

use crate::child::Child;

const VARIABLE: &str = "MIMEO_PAGER_TEST_SMALL_DISK";

/// Runs a test again on a small disk, or returns the directory in that second run.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(VARIABLE, folder.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{output:?}");
    None
}

fn assert_no_space(error: &PagerError, file: &Path) {
    let is_no_space = matches!(error, PagerError::File(FileError::NoSpace { path, .. }) if path == file);
    assert!(is_no_space, "{error:?}");
}

fn assert_empty(folder: &Path) {
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "a file was left");
}

#[test]
fn enospc_before_the_pause_leaves_no_file() {
    let Some(folder) = small_disk("no_space::enospc_before_the_pause_leaves_no_file") else { return };
    let file = folder.join("diff");
    let mut child = Child::shared(4000);
    child.write(0, 1000);
    let error = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap_err();
    assert_no_space(&error, &file);
    assert_empty(&folder);
}

#[test]
fn enospc_during_the_pause_leaves_no_file() {
    let Some(folder) = small_disk("no_space::enospc_during_the_pause_leaves_no_file") else { return };
    let file = folder.join("diff");
    let mut child = Child::shared(4000);
    child.write(0, 100);
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap();
    child.write(0, 1000);
    assert_no_space(&capture.copy_changed().unwrap_err(), &file);
    drop(capture);
    assert_empty(&folder);
}

#[test]
fn enospc_while_flattening_leaves_no_file() {
    let Some(folder) = small_disk("no_space::enospc_while_flattening_leaves_no_file") else { return };
    let elsewhere = tempfile::tempdir_in("/var/tmp").unwrap();
    let parent = elsewhere.path().join("parent");
    fs::write(&parent, vec![1; 600 * PAGE as usize]).unwrap();
    let target = folder.join("flat");
    let error = flatten(&parent, &parent, &Pages::default(), &target).unwrap_err();
    assert!(matches!(&error, FileError::NoSpace { path, .. } if *path == target), "{error:?}");
    assert_empty(&folder);
}
