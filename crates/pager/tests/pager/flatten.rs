//! A diff flattened over its parent equals the child's memory.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use mimeo_pager::{Capture, FileError, PAGE, Pages, digest, flatten};

use crate::child::Child;

#[test]
fn a_diff_over_its_parent_equals_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let parent = File::create(path("parent")).unwrap();
    parent.set_len(5000 * PAGE).unwrap();
    parent.write_all_at(&vec![3; 900 * PAGE as usize], 100 * PAGE).unwrap();
    let mut child = Child::private(&path("parent"));
    child.write(90, 20);
    child.write(4999, 1);
    child.zero(500, 9);
    let mut capture =
        Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &path("diff")).unwrap();
    let pages = capture.copy_changed().unwrap();
    capture.finish(false, false).unwrap();
    flatten(&path("parent"), &path("diff"), &pages, &path("flat")).unwrap();
    assert!(fs::read(path("flat")).unwrap() == child.memory);
    assert!(fs::metadata(path("flat")).unwrap().blocks() * 512 < 1000 * PAGE, "holes were filled");
    fs::write(path("dense"), &child.memory).unwrap();
    let digests = [path("flat"), path("dense")].map(|file| digest(&file, None).unwrap());
    assert_eq!(digests[0], digests[1], "a digest depends on holes");
    assert_ne!(digests[0], digest(&path("parent"), None).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "a draft was left");
}

#[test]
fn any_change_makes_another_digest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let pages = Pages::from(1..3);
    let mut bytes = vec![0; 4 * PAGE as usize];
    let mut seen = Vec::new();
    let mut add_digests = |bytes: &[u8], pages: &Pages| {
        fs::write(&file, bytes).unwrap();
        seen.push(digest(&file, Some(pages)).unwrap());
        seen.push(digest(&file, None).unwrap());
    };
    bytes[PAGE as usize] = 1;
    add_digests(&bytes, &pages);
    bytes[PAGE as usize] = 3;
    add_digests(&bytes, &pages);
    bytes.rotate_right(PAGE as usize);
    add_digests(&bytes, &Pages::from(2..4));
    bytes.extend([0; PAGE as usize]);
    add_digests(&bytes, &Pages::from(2..4));
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "").unwrap();
    let missing = folder.path().join("missing");
    let target = folder.path().join("target");
    for (parent, diff) in [(&missing, &there), (&there, &missing)] {
        let error = flatten(parent, diff, &Pages::default(), &target).unwrap_err();
        assert!(matches!(&error, FileError::Read { path, .. } if *path == missing), "{error:?}");
    }
    assert!(!target.exists());
}
