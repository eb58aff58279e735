//! Memory that a clone has removed, moved or unmapped.

use mimeo_pager::fake::ALL_FEATURES;
use mimeo_pager::page_server::Options;
use mimeo_pager::{PAGE, Pages};

use crate::server::{Server, write_memory};
use crate::vmm::Vmm;

#[test]
fn removed_pages_read_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let mut expected = write_memory(&file, 600, std::slice::from_ref(&(0..600)));
    let mut server = Server::start(&file, Options::default());
    let mut vmm = Vmm::start_served(&[200, 400], &server.socket());
    vmm.run("touch 0 100");
    vmm.run("write 90 95 7");
    // Some installed pages, some missing ones, and some in another region.
    vmm.run("remove 80 150");
    vmm.run("remove 250 251");
    vmm.run("touch 85 95");
    vmm.run("remove 90 100");
    vmm.run("write 92 93 5");
    expected[80 * PAGE as usize..150 * PAGE as usize].fill(0);
    expected[250 * PAGE as usize..251 * PAGE as usize].fill(0);
    expected[92 * PAGE as usize..93 * PAGE as usize].fill(5);
    assert!(vmm.read_all(600, "shuffled", 3) == expected);
    vmm.kill();
    assert_eq!(server.wait().removed, 81);
}

#[test]
fn concurrent_reads_writes_and_removals_are_consistent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 1200, &[0..500, 700..1200]);
    for (fault_around, prefetch) in [(1, Pages::default()), (16, Pages::from(0..1200))] {
        let mut server = Server::start(&file, Options { fault_around, prefetch, ..Options::default() });
        // Several regions, so that removals happen in several at a time.
        let mut clones = [(); 2].map(|()| Vmm::start_served(&[300, 300, 600], &server.socket()));
        let command = format!("work {} 4", file.display());
        clones.iter_mut().for_each(|vmm| vmm.send(&command));
        for vmm in &mut clones {
            assert_eq!(vmm.next_reply().as_deref(), Some("done"));
        }
        drop(clones);
        let counters = server.wait();
        assert!(counters.removed > 500 && counters.failed == 0, "{counters:?}");
    }
}

#[test]
fn moved_and_unmapped_memory_is_tracked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let mut expected = write_memory(&file, 600, std::slice::from_ref(&(0..600)));
    let mut server = Server::start(&file, Options::default());
    let mut vmm = Vmm::with_features(&[200, 100, 300], PAGE, ALL_FEATURES);
    vmm.hand_over(&server.socket());
    vmm.run("touch 0 50");
    vmm.run("remove 40 60");
    vmm.run("unmap 200");
    vmm.run("shift 0");
    vmm.run("shift 300");
    let read = [vmm.read_from(0, 200, "backwards", 2), vmm.read_from(300, 300, "shuffled", 2)];
    expected[40 * PAGE as usize..60 * PAGE as usize].fill(0);
    expected.drain(200 * PAGE as usize..300 * PAGE as usize);
    assert!(read.concat() == expected);
    vmm.kill();
    assert_eq!(server.wait().failed, 0);
}
