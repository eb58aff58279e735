//! Captures equal the memory, byte by byte.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use mimeo_pager::{Capture, PAGE, PagerError, Pages, digest};

use crate::child::Child;

/// The captured pages of the file equal the child's memory, and nothing else is allocated.
fn assert_same(file: &Path, pages: &Pages, memory: &[u8]) {
    let open = fs::File::open(file).unwrap();
    for page in pages.runs().flatten() {
        let mut bytes = vec![0; PAGE as usize];
        open.read_exact_at(&mut bytes, page * PAGE).unwrap();
        let at = (page * PAGE) as usize;
        assert!(bytes == memory[at..at + bytes.len()], "page {page} differs");
    }
    assert_eq!(open.metadata().unwrap().len(), memory.len() as u64);
    assert!(open.metadata().unwrap().blocks() * 512 <= pages.bytes() + 64 * 1024, "unused blocks are left");
}

fn assert_captures(mut child: Child) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diff");
    child.write(2, 3000);
    child.write(20_000, 1);
    child.zero(20_010, 2);
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap();
    // Writes after the preparation, to preallocated pages and to others.
    child.write(100, 10);
    child.write(7_000, 600);
    child.write(29_999, 1);
    let pages = capture.copy_changed().unwrap();
    let expected: Pages =
        [2..3002, 7_000..7_600, 20_000..20_001, 20_010..20_012, 29_999..30_000].into_iter().collect();
    assert_eq!(pages.intersection(&expected), expected);
    let captured_digest = capture.finish(true, true).unwrap();
    assert_same(&file, &pages, &child.memory);
    assert_eq!(captured_digest, Some(digest(&file, Some(&pages)).unwrap()));
}

#[test]
fn captures_a_private_mapping() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("parent");
    fs::write(&parent, vec![7; 30_000 * PAGE as usize]).unwrap();
    assert_captures(Child::private(&parent));
}

#[test]
fn captures_a_memfd() {
    assert_captures(Child::shared(30_000));
}

#[test]
fn captures_anonymous_memory() {
    assert_captures(Child::anonymous(30_000));
}

#[test]
fn scattered_pages_keep_their_offsets() {
    let mut child = Child::shared(6000);
    (0..3000).for_each(|page| child.write(page * 2, 1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diff");
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap();
    child.write(0, 6000);
    let pages = capture.copy_changed().unwrap();
    assert_eq!(pages.count(), 6000);
    assert_eq!(capture.finish(false, false).unwrap(), None);
    assert_same(&file, &pages, &child.memory);
}

#[test]
fn unused_blocks_are_freed() {
    let mut child = Child::anonymous(512);
    child.write(0, 300);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diff");
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap();
    child.forget(0, 290);
    let pages = capture.copy_changed().unwrap();
    capture.finish(false, false).unwrap();
    child.memory[..290 * PAGE as usize].fill(0);
    assert_same(&file, &pages, &child.memory);
}

#[test]
fn a_process_that_exits_is_named_and_leaves_no_file() {
    let mut child = Child::shared(4000);
    child.write(0, 4000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diff");
    let mut capture = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap();
    child.kill();
    let error = capture.copy_changed().unwrap_err();
    assert!(matches!(error, PagerError::Exited { pid } if pid == child.pid()), "{error:?}");
    drop(capture);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_existing_file_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diff");
    fs::write(&file, "here before").unwrap();
    let child = Child::shared(4);
    let error = Capture::prepare(child.pid(), child.regions(), child.mapping_kind, &file).unwrap_err();
    assert!(matches!(error, PagerError::File(_)), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), b"here before");
}
