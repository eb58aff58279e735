//! A full disk: each test runs again in its own mount namespace, on a filesystem of 1 MiB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mimeo_pager::{Capture, FileError, PAGE, PagerError, Pages, lay};

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
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{output:?}");
    None
}

fn assert_full(refused: &PagerError, file: &Path) {
    let full = matches!(refused, PagerError::File(FileError::Full { path, .. }) if path == file);
    assert!(full, "{refused:?}");
}

fn assert_empty(folder: &Path) {
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "a file was left");
}

#[test]
fn before_the_pause_it_is_named_and_leaves_no_file() {
    let Some(folder) = small_disk("full::before_the_pause_it_is_named_and_leaves_no_file") else { return };
    let file = folder.join("diff");
    let mut child = Child::shared(4000);
    child.write(0, 1000);
    let refused = Capture::prepare(child.pid(), child.regions(), child.held, &file).unwrap_err();
    assert_full(&refused, &file);
    assert_empty(&folder);
}

#[test]
fn in_the_pause_it_is_named_and_leaves_no_file() {
    let Some(folder) = small_disk("full::in_the_pause_it_is_named_and_leaves_no_file") else { return };
    let file = folder.join("diff");
    let mut child = Child::shared(4000);
    child.write(0, 100);
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.held, &file).unwrap();
    child.write(0, 1000);
    assert_full(&capture.take().unwrap_err(), &file);
    drop(capture);
    assert_empty(&folder);
}

#[test]
fn a_flat_file_without_room_is_named_and_leaves_none() {
    let Some(folder) = small_disk("full::a_flat_file_without_room_is_named_and_leaves_none") else { return };
    let elsewhere = tempfile::tempdir_in("/var/tmp").unwrap();
    let parent = elsewhere.path().join("parent");
    fs::write(&parent, vec![1; 600 * PAGE as usize]).unwrap();
    let target = folder.join("flat");
    let refused = lay(&parent, &parent, &Pages::default(), &target).unwrap_err();
    assert!(matches!(&refused, FileError::Full { path, .. } if *path == target), "{refused:?}");
    assert_empty(&folder);
}
