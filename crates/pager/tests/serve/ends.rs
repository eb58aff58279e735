//! How clones and servers end.

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use mimeo_pager::serve::{End, Options, ServeError};

use crate::server::{PATIENCE, Server, memory};
use crate::vmm::Vmm;

#[test]
fn a_server_ends_when_its_last_clone_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let [mut one, mut other] = [(); 2].map(|()| Vmm::served(&[100], &server.socket()));
    one.does("touch 0 10");
    other.does("touch 0 5");
    one.kill();
    let gone = server.departure();
    assert_eq!(gone.pid, one.pid());
    assert!(matches!(gone.end, End::Left), "{gone:?}");
    other.does("touch 0 100");
    other.kill();
    assert_eq!(server.departure().pid, other.pid());
    assert_eq!(server.ended().clones, 2);
    // A later client is refused at once.
    let mut late = Vmm::start(&[100]);
    late.does(&format!("late {}", server.socket().display()));
}

#[test]
fn a_server_that_is_told_to_end_ends_its_clones_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = [(); 3].map(|()| Vmm::served(&[100], &server.socket()));
    clones[0].does("touch 0 10");
    // One client has connected and sent nothing.
    let mut silent = Vmm::start(&[100]);
    silent.does(&format!("say {} nothing", server.socket().display()));
    server.stop();
    server.ended();
    for vmm in clones.iter_mut().chain([&mut silent]) {
        assert!(!vmm.ended().success());
        assert!(matches!(server.departure().end, End::Stopped));
    }
}

#[test]
fn a_server_that_is_given_up_ends_its_clones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = [(); 2].map(|()| Vmm::served(&[100], &server.socket()));
    clones[0].does("touch 0 10");
    server.until(|figures| figures.clones == 2);
    server.abandon();
    for vmm in &mut clones {
        assert!(!vmm.ended().success());
    }
}

#[test]
fn a_clone_that_dies_in_the_middle_is_let_go_of_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 5000, std::slice::from_ref(&(0..5000)));
    let mut server = Server::start(&file, Options { around: 1, ..Options::default() });
    let mut stays = Vmm::served(&[5000], &server.socket());
    stays.does("touch 0 100");
    let before = held();
    for _ in 0..5 {
        let mut dies = Vmm::served(&[5000], &server.socket());
        let answered = server.pages.figures().faults;
        dies.tell("touch 0 5000");
        server.until(|figures| figures.faults > answered + 100);
        dies.kill();
        let gone = server.departure();
        assert!(gone.pid == dies.pid() && matches!(gone.end, End::Left), "{gone:?}");
        // Other tests may hold some while they run.
        let deadline = Instant::now() + PATIENCE;
        while held() > before {
            assert!(Instant::now() < deadline, "the userfaultfd is still open");
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(stays.read_all(5000, "shuffled", 2) == wanted);
    stays.kill();
    assert_eq!(server.ended().failed, 0);
}

/// The number of userfaultfds that this process holds, for all tests that run in it.
fn held() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let names = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|name| name.as_os_str() == "anon_inode:[userfaultfd]").count()
}

#[test]
fn a_file_that_is_cut_short_ends_who_needs_it_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 1000, std::slice::from_ref(&(0..500)));
    let mut server = Server::start(&file, Options::default());
    let [mut one, mut other] = [(); 2].map(|()| Vmm::served(&[1000], &server.socket()));
    one.does("touch 0 100");
    other.does("touch 0 100");
    File::options().write(true).open(&file).unwrap().set_len(4096 * 50).unwrap();
    one.tell("touch 200 201");
    assert!(!one.ended().success());
    let gone = server.departure();
    assert_eq!(gone.pid, one.pid());
    assert!(matches!(gone.end, End::Failed(ServeError::Memory { offset: 0xc8000 })), "{gone:?}");
    // The other clone keeps what it has; holes are still zeros.
    other.does("touch 0 100");
    other.does("touch 600 1000");
    other.kill();
    assert_eq!(server.ended().failed, 1);
}

#[test]
fn a_clone_whose_pages_are_put_in_ahead_finds_a_short_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    memory(&file, 1000, std::slice::from_ref(&(0..1000)));
    let prefetch = std::iter::once(0..1000).collect();
    let server = Server::start(&file, Options { prefetch, ..Options::default() });
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    let mut vmm = Vmm::served(&[1000], &server.socket());
    assert!(!vmm.ended().success());
    assert!(matches!(server.departure().end, End::Failed(ServeError::Memory { .. })));
}

#[test]
fn a_clone_that_is_silent_after_its_word_costs_nothing_and_is_served_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let wanted = memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server =
        Server::start(&file, Options { patience: Duration::from_millis(50), ..Options::default() });
    let mut vmm = Vmm::served(&[100], &server.socket());
    // A clone may also close the connection.
    vmm.does("hush");
    server.until(|figures| figures.clones == 1);
    assert!(vmm.read_all(100, "forwards", 1) == wanted);
    vmm.kill();
    server.ended();
}
