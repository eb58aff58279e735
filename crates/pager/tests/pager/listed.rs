//! Which pages are listed as changed.

use mimeo_pager::{Held, PAGE, PagerError, Pages, Region, changed, working_set};

use crate::child::Child;

fn parent(folder: &tempfile::TempDir, pages: u64) -> std::path::PathBuf {
    let path = folder.path().join("parent");
    let bytes: Vec<u8> = (0..pages * PAGE).map(|at| (at / 7 % 251) as u8).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn of_a_private_mapping_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Child::private(&parent(&folder, 90));
    assert_eq!(changed(child.pid(), &child.regions(), Held::Private).unwrap(), Pages::default());
    child.read(0, 90);
    child.write(3, 2);
    child.write(28, 5);
    child.write(89, 1);
    let pages = changed(child.pid(), &child.regions(), child.held).unwrap();
    assert_eq!(pages, [3..5, 28..33, 89..90].into_iter().collect());
    let mapped = working_set::record(child.pid(), &child.regions()).unwrap();
    assert_eq!(mapped, Pages::from(0..90));
    working_set::prefetch(&folder.path().join("parent"), &mapped).unwrap();
}

#[test]
fn of_a_memory_file_all_that_it_holds() {
    let mut child = Child::shared(1 << 16);
    child.write(7, 3);
    child.write(40_000, 300);
    child.forget(7, 2);
    let pages = changed(child.pid(), &child.regions(), child.held).unwrap();
    assert_eq!(pages, [7..10, 40_000..40_300].into_iter().collect());
}

#[test]
fn of_anonymous_memory_all_that_exists() {
    let mut child = Child::anonymous(1 << 10);
    child.write(7, 3);
    let pages = changed(child.pid(), &child.regions(), child.held).unwrap();
    assert_eq!(pages.minus(&Pages::from(0..1 << 10)), Pages::default());
    assert_eq!(pages.common(&Pages::from(7..10)).count(), 3);
}

#[test]
fn a_process_that_has_ended_is_named() {
    let mut child = Child::shared(9);
    child.end();
    let refused = changed(child.pid(), &child.regions(), child.held).unwrap_err();
    assert!(matches!(refused, PagerError::Gone { pid } if pid == child.pid()), "{refused:?}");
    let nowhere = changed(child.pid(), &[], child.held).unwrap_err();
    assert!(matches!(nowhere, PagerError::Region { .. }), "{nowhere:?}");
}

#[test]
fn memory_that_is_not_as_it_is_named_is_refused() {
    let child = Child::shared(90);
    // In a shared mapping no page would count as changed, and a capture would be empty.
    let refused = changed(child.pid(), &child.regions(), Held::Private).unwrap_err();
    assert!(matches!(refused, PagerError::Unmapped { .. }), "{refused:?}");
    let nowhere = Region { address: PAGE, offset: 0, length: PAGE };
    let refused = changed(child.pid(), &[nowhere], Held::Shared).unwrap_err();
    assert!(matches!(refused, PagerError::Unmapped { address: PAGE, .. }), "{refused:?}");
}

#[test]
fn a_process_that_may_not_be_looked_at_is_named() {
    let region = Region { address: 0, offset: 0, length: PAGE };
    // PID 2 is a kernel thread, without memory.
    let refused = changed(2, &[region], Held::Private).unwrap_err();
    assert!(matches!(refused, PagerError::Gone { .. } | PagerError::List { .. }), "{refused:?}");
}
