//! A clone reads the snapshot's content.

use mimeo_pager::Pages;
use mimeo_pager::serve::Options;

use crate::server::{Server, memory};
use crate::vmm::Vmm;

#[test]
fn in_every_order_and_from_several_threads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 1000, &[0..300, 310..311, 400..900]);
    for (order, threads) in [("forwards", 1), ("backwards", 1), ("shuffled", 4), ("together", 4)] {
        for around in [1, 16] {
            let mut server = Server::start(&file, Options { around, ..Options::default() });
            let mut vmm = Vmm::served(&[100, 7, 893], &server.socket());
            assert!(vmm.read_all(1000, order, threads) == wanted, "{order}, {around}");
            vmm.kill();
            let figures = server.ended();
            assert_eq!((figures.copied, figures.zeroed), (801, 199), "{order}, {around}");
        }
    }
}

#[test]
fn what_is_put_in_ahead_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 1000, &[0..300, 400..900]);
    let prefetch: Pages = [10..20, 280..420, 421..422, 900..1000].into_iter().collect();
    let mut server = Server::start(&file, Options { prefetch: prefetch.clone(), ..Options::default() });
    let mut vmm = Vmm::served(&[1000], &server.socket());
    server.until(|figures| figures.prefetched == prefetch.count());
    vmm.does("touch 10 20");
    vmm.does("touch 280 420");
    vmm.does("touch 900 1000");
    assert_eq!(server.pages.figures().faults, 0);
    assert!(vmm.read_all(1000, "shuffled", 3) == wanted);
    vmm.kill();
    let figures = server.ended();
    assert_eq!(figures.prefetched + figures.copied + figures.zeroed, 1000);
    assert!(server.asked().common(&prefetch).is_empty());
}

#[test]
fn faults_are_answered_while_pages_are_put_in_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 8000, std::slice::from_ref(&(0..8000)));
    let mut server = Server::start(&file, Options { prefetch: Pages::from(0..8000), ..Options::default() });
    let mut clones: Vec<_> = (0..3).map(|_| Vmm::served(&[3000, 5000], &server.socket())).collect();
    for vmm in &mut clones {
        assert!(vmm.read_all(8000, "backwards", 2) == wanted);
    }
    drop(clones);
    let figures = server.ended();
    assert_eq!((figures.clones, figures.copied + figures.prefetched), (3, 24_000));
}

#[test]
fn the_pages_that_were_asked_for_are_the_working_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 1000, std::slice::from_ref(&(0..500)));
    let mut server = Server::start(&file, Options { around: 1, ..Options::default() });
    let [mut one, mut other] = [(); 2].map(|()| Vmm::served(&[300, 700], &server.socket()));
    one.does("touch 5 9");
    one.does("touch 290 310");
    other.does("write 7 12 1");
    other.does("touch 490 510");
    // Zero pages are not recorded: they cost nothing.
    let wanted: Pages = [5..12, 290..310, 490..500].into_iter().collect();
    assert_eq!(server.asked(), wanted);
    drop([one, other]);
    server.ended();
    assert_eq!(server.asked(), wanted);
}

#[test]
fn two_servers_have_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 700, &[0..300, 310..700]);
    let mut servers = [(); 2].map(|()| Server::start(&file, Options::default()));
    let mut clones: Vec<_> = servers.iter().map(|server| Vmm::served(&[700], &server.socket())).collect();
    clones[0].does("write 0 700 9");
    assert!(clones[1].read_all(700, "shuffled", 2) == wanted);
    drop(clones);
    for server in &mut servers {
        assert_eq!(server.ended().clones, 1);
    }
}
