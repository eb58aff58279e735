//! Memory that a clone has removed, moved or unmapped.

use mimeo_pager::fake::ALL_FEATURES;
use mimeo_pager::serve::Options;
use mimeo_pager::{PAGE, Pages};

use crate::server::{Server, memory};
use crate::vmm::Vmm;

#[test]
fn what_was_given_back_is_zeros_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let mut wanted = memory(&file, 600, std::slice::from_ref(&(0..600)));
    let mut server = Server::start(&file, Options::default());
    let mut vmm = Vmm::served(&[200, 400], &server.socket());
    vmm.does("touch 0 100");
    vmm.does("write 90 95 7");
    // Some installed pages, some missing ones, and some in another region.
    vmm.does("remove 80 150");
    vmm.does("remove 250 251");
    vmm.does("touch 85 95");
    vmm.does("remove 90 100");
    vmm.does("write 92 93 5");
    wanted[80 * PAGE as usize..150 * PAGE as usize].fill(0);
    wanted[250 * PAGE as usize..251 * PAGE as usize].fill(0);
    wanted[92 * PAGE as usize..93 * PAGE as usize].fill(5);
    assert!(vmm.read_all(600, "shuffled", 3) == wanted);
    vmm.kill();
    assert_eq!(server.ended().removed, 81);
}

#[test]
fn threads_that_read_and_write_and_give_back_find_what_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 1200, &[0..500, 700..1200]);
    for (around, prefetch) in [(1, Pages::default()), (16, Pages::from(0..1200))] {
        let mut server = Server::start(&file, Options { around, prefetch, ..Options::default() });
        // Several regions, so that removals happen in several at a time.
        let mut clones = [(); 2].map(|()| Vmm::served(&[300, 300, 600], &server.socket()));
        let order = format!("work {} 4", file.display());
        clones.iter_mut().for_each(|vmm| vmm.tell(&order));
        for vmm in &mut clones {
            assert_eq!(vmm.answer().as_deref(), Some("done"));
        }
        drop(clones);
        let figures = server.ended();
        assert!(figures.removed > 500 && figures.failed == 0, "{figures:?}");
    }
}

#[test]
fn memory_that_is_moved_or_unmapped_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let mut wanted = memory(&file, 600, std::slice::from_ref(&(0..600)));
    let mut server = Server::start(&file, Options::default());
    let mut vmm = Vmm::with(&[200, 100, 300], PAGE, ALL_FEATURES);
    vmm.hand_over(&server.socket());
    vmm.does("touch 0 50");
    vmm.does("remove 40 60");
    vmm.does("unmap 200");
    vmm.does("shift 0");
    vmm.does("shift 300");
    let read = [vmm.read_from(0, 200, "backwards", 2), vmm.read_from(300, 300, "shuffled", 2)];
    wanted[40 * PAGE as usize..60 * PAGE as usize].fill(0);
    wanted.drain(200 * PAGE as usize..300 * PAGE as usize);
    assert!(read.concat() == wanted);
    vmm.kill();
    assert_eq!(server.ended().failed, 0);
}
