//! A clone reads the snapshot's content.

use mimeo_pager::Pages;
use mimeo_pager::page_server::Options;

use crate::server::{Server, write_memory};
use crate::vmm::Vmm;

#[test]
fn clones_read_the_snapshot_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 1000, &[0..300, 310..311, 400..900]);
    for (order, threads) in [("forwards", 1), ("backwards", 1), ("shuffled", 4), ("together", 4)] {
        for fault_around in [1, 16] {
            let mut server = Server::start(&file, Options { fault_around, ..Options::default() });
            let mut vmm = Vmm::start_served(&[100, 7, 893], &server.socket());
            assert!(vmm.read_all(1000, order, threads) == expected, "{order}, {fault_around}");
            vmm.kill();
            let counters = server.wait();
            assert_eq!((counters.copied, counters.zeroed), (801, 199), "{order}, {fault_around}");
        }
    }
}

#[test]
fn prefetched_pages_do_not_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 1000, &[0..300, 400..900]);
    let prefetch: Pages = [10..20, 280..420, 421..422, 900..1000].into_iter().collect();
    let mut server = Server::start(&file, Options { prefetch: prefetch.clone(), ..Options::default() });
    let mut vmm = Vmm::start_served(&[1000], &server.socket());
    server.until(|counters| counters.prefetched == prefetch.count());
    vmm.run("touch 10 20");
    vmm.run("touch 280 420");
    vmm.run("touch 900 1000");
    assert_eq!(server.pages.counters().faults, 0);
    assert!(vmm.read_all(1000, "shuffled", 3) == expected);
    vmm.kill();
    let counters = server.wait();
    assert_eq!(counters.prefetched + counters.copied + counters.zeroed, 1000);
    assert!(server.working_set().intersection(&prefetch).is_empty());
}

#[test]
fn faults_are_answered_during_prefetch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 8000, std::slice::from_ref(&(0..8000)));
    let mut server = Server::start(&file, Options { prefetch: Pages::from(0..8000), ..Options::default() });
    let mut clones: Vec<_> = (0..3).map(|_| Vmm::start_served(&[3000, 5000], &server.socket())).collect();
    for vmm in &mut clones {
        assert!(vmm.read_all(8000, "backwards", 2) == expected);
    }
    drop(clones);
    let counters = server.wait();
    assert_eq!((counters.clones, counters.copied + counters.prefetched), (3, 24_000));
}

#[test]
fn faulted_pages_are_the_working_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 1000, std::slice::from_ref(&(0..500)));
    let mut server = Server::start(&file, Options { fault_around: 1, ..Options::default() });
    let [mut one, mut other] = [(); 2].map(|()| Vmm::start_served(&[300, 700], &server.socket()));
    one.run("touch 5 9");
    one.run("touch 290 310");
    other.run("write 7 12 1");
    other.run("touch 490 510");
    // Zero pages are not recorded: they cost nothing.
    let expected: Pages = [5..12, 290..310, 490..500].into_iter().collect();
    assert_eq!(server.working_set(), expected);
    drop([one, other]);
    server.wait();
    assert_eq!(server.working_set(), expected);
}

#[test]
fn two_servers_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 700, &[0..300, 310..700]);
    let mut servers = [(); 2].map(|()| Server::start(&file, Options::default()));
    let mut clones: Vec<_> =
        servers.iter().map(|server| Vmm::start_served(&[700], &server.socket())).collect();
    clones[0].run("write 0 700 9");
    assert!(clones[1].read_all(700, "shuffled", 2) == expected);
    drop(clones);
    for server in &mut servers {
        assert_eq!(server.wait().clones, 1);
    }
}
