//! How clones and servers end.

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use mimeo_pager::page_server::{ExitReason, Options, ServeError};

use crate::server::{Server, TIMEOUT, write_memory};
use crate::vmm::Vmm;

#[test]
fn a_server_ends_with_its_last_clone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let [mut one, mut other] = [(); 2].map(|()| Vmm::start_served(&[100], &server.socket()));
    one.run("touch 0 10");
    other.run("touch 0 5");
    one.kill();
    let exit = server.next_exit();
    assert_eq!(exit.pid, one.pid());
    assert!(matches!(exit.reason, ExitReason::Exited), "{exit:?}");
    other.run("touch 0 100");
    other.kill();
    assert_eq!(server.next_exit().pid, other.pid());
    assert_eq!(server.wait().clones, 2);
    // A later client is refused at once.
    let mut late = Vmm::start(&[100]);
    late.run(&format!("late {}", server.socket().display()));
}

#[test]
fn a_stopped_server_kills_its_clones_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = [(); 3].map(|()| Vmm::start_served(&[100], &server.socket()));
    clones[0].run("touch 0 10");
    // One client has connected and sent nothing.
    let mut silent = Vmm::start(&[100]);
    silent.run(&format!("say {} nothing", server.socket().display()));
    server.stop();
    server.wait();
    for vmm in clones.iter_mut().chain([&mut silent]) {
        assert!(!vmm.wait().success());
        assert!(matches!(server.next_exit().reason, ExitReason::Stopped));
    }
}

#[test]
fn an_aborted_server_kills_its_clones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server = Server::start(&file, Options::default());
    let mut clones = [(); 2].map(|()| Vmm::start_served(&[100], &server.socket()));
    clones[0].run("touch 0 10");
    server.until(|counters| counters.clones == 2);
    server.abort();
    for vmm in &mut clones {
        assert!(!vmm.wait().success());
    }
}

#[test]
fn a_dead_clone_is_released_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 5000, std::slice::from_ref(&(0..5000)));
    let mut server = Server::start(&file, Options { fault_around: 1, ..Options::default() });
    let mut stays = Vmm::start_served(&[5000], &server.socket());
    stays.run("touch 0 100");
    let before = open_userfaultfds();
    for _ in 0..5 {
        let mut dies = Vmm::start_served(&[5000], &server.socket());
        let answered = server.pages.counters().faults;
        dies.send("touch 0 5000");
        server.until(|counters| counters.faults > answered + 100);
        dies.kill();
        let exit = server.next_exit();
        assert!(exit.pid == dies.pid() && matches!(exit.reason, ExitReason::Exited), "{exit:?}");
        // Other tests may hold some while they run.
        let deadline = Instant::now() + TIMEOUT;
        while open_userfaultfds() > before {
            assert!(Instant::now() < deadline, "the userfaultfd is still open");
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(stays.read_all(5000, "shuffled", 2) == expected);
    stays.kill();
    assert_eq!(server.wait().failed, 0);
}

/// The number of userfaultfds that this process holds, for all tests that run in it.
fn open_userfaultfds() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let names = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|name| name.as_os_str() == "anon_inode:[userfaultfd]").count()
}

#[test]
fn a_truncated_file_kills_only_clones_that_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 1000, std::slice::from_ref(&(0..500)));
    let mut server = Server::start(&file, Options::default());
    let [mut one, mut other] = [(); 2].map(|()| Vmm::start_served(&[1000], &server.socket()));
    one.run("touch 0 100");
    other.run("touch 0 100");
    File::options().write(true).open(&file).unwrap().set_len(4096 * 50).unwrap();
    one.send("touch 200 201");
    assert!(!one.wait().success());
    let exit = server.next_exit();
    assert_eq!(exit.pid, one.pid());
    assert!(
        matches!(exit.reason, ExitReason::Failed(ServeError::MemoryFile { offset: 0xc8000 })),
        "{exit:?}"
    );
    // The other clone keeps what it has; holes are still zeros.
    other.run("touch 0 100");
    other.run("touch 600 1000");
    other.kill();
    assert_eq!(server.wait().failed, 1);
}

#[test]
fn prefetch_detects_a_truncated_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    write_memory(&file, 1000, std::slice::from_ref(&(0..1000)));
    let prefetch = std::iter::once(0..1000).collect();
    let server = Server::start(&file, Options { prefetch, ..Options::default() });
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    let mut vmm = Vmm::start(&[1000]);
    // The server may kill it before it replies.
    vmm.send(&format!("hand {}", server.socket().display()));
    assert!(vmm.next_reply().is_none_or(|reply| reply == "done"));
    assert!(!vmm.wait().success());
    assert!(matches!(server.next_exit().reason, ExitReason::Failed(ServeError::MemoryFile { .. })));
}

#[test]
fn an_idle_clone_is_served_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    let expected = write_memory(&file, 100, std::slice::from_ref(&(0..100)));
    let mut server =
        Server::start(&file, Options { handshake_timeout: Duration::from_millis(50), ..Options::default() });
    let mut vmm = Vmm::start_served(&[100], &server.socket());
    // A clone may also close the connection.
    vmm.run("hush");
    server.until(|counters| counters.clones == 1);
    assert!(vmm.read_all(100, "forwards", 1) == expected);
    vmm.kill();
    server.wait();
}
