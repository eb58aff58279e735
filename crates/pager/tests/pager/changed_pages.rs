//! Which pages are listed as changed.

use mimeo_pager::{MappingKind, PAGE, PagerError, Pages, Region, changed_pages, working_set};

use crate::child::Child;

fn parent(folder: &tempfile::TempDir, pages: u64) -> std::path::PathBuf {
    let path = folder.path().join("parent");
    let bytes: Vec<u8> = (0..pages * PAGE).map(|at| (at / 7 % 251) as u8).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_private_mapping_lists_written_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Child::private(&parent(&folder, 90));
    assert_eq!(changed_pages(child.pid(), &child.regions(), MappingKind::Private).unwrap(), Pages::default());
    child.read(0, 90);
    child.write(3, 2);
    child.write(28, 5);
    child.write(89, 1);
    let pages = changed_pages(child.pid(), &child.regions(), child.mapping_kind).unwrap();
    assert_eq!(pages, [3..5, 28..33, 89..90].into_iter().collect());
    let mapped = working_set::record(child.pid(), &child.regions()).unwrap();
    assert_eq!(mapped, Pages::from(0..90));
    working_set::prefetch(&folder.path().join("parent"), &mapped).unwrap();
}

#[test]
fn a_memfd_lists_all_its_data() {
    let mut child = Child::shared(1 << 16);
    child.write(7, 3);
    child.write(40_000, 300);
    child.forget(7, 2);
    let pages = changed_pages(child.pid(), &child.regions(), child.mapping_kind).unwrap();
    assert_eq!(pages, [7..10, 40_000..40_300].into_iter().collect());
}

#[test]
fn anonymous_memory_lists_all_pages() {
    let mut child = Child::anonymous(1 << 10);
    child.write(7, 3);
    let pages = changed_pages(child.pid(), &child.regions(), child.mapping_kind).unwrap();
    assert_eq!(pages.difference(&Pages::from(0..1 << 10)), Pages::default());
    assert_eq!(pages.intersection(&Pages::from(7..10)).count(), 3);
}

#[test]
fn an_exited_process_is_named() {
    let mut child = Child::shared(9);
    child.kill();
    let error = changed_pages(child.pid(), &child.regions(), child.mapping_kind).unwrap_err();
    assert!(matches!(error, PagerError::Exited { pid } if pid == child.pid()), "{error:?}");
    let nowhere = changed_pages(child.pid(), &[], child.mapping_kind).unwrap_err();
    assert!(matches!(nowhere, PagerError::Region { .. }), "{nowhere:?}");
}

#[test]
fn other_kinds_of_mappings_are_refused() {
    let child = Child::shared(90);
    // In a shared mapping no page would count as changed, and a capture would be empty.
    let error = changed_pages(child.pid(), &child.regions(), MappingKind::Private).unwrap_err();
    assert!(matches!(error, PagerError::Unmapped { .. }), "{error:?}");
    let nowhere = Region { address: PAGE, offset: 0, length: PAGE };
    let error = changed_pages(child.pid(), &[nowhere], MappingKind::Shared).unwrap_err();
    assert!(matches!(error, PagerError::Unmapped { address: PAGE, .. }), "{error:?}");
}

#[test]
fn a_process_without_memory_is_refused() {
    let region = Region { address: 0, offset: 0, length: PAGE };
    // PID 2 is a kernel thread, without memory.
    let error = changed_pages(2, &[region], MappingKind::Private).unwrap_err();
    assert!(matches!(error, PagerError::Exited { .. } | PagerError::List { .. }), "{error:?}");
}
