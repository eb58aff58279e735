//! Keeps real processes, and has others begin as them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod child;

use std::fs;
use std::path::Path;

use child::Child;
use mimeo_checkpoint::{Checkpoint, CheckpointError, Wanted, take};

/// Descriptors that every child is given.
const GIVEN: [i32; 4] = [0, 1, 2, child::SOCKET];

fn keep(child: &mut Child, dir: &Path) -> Result<(), CheckpointError> {
    fs::create_dir(dir).unwrap();
    let kept = take(child.pid(), Wanted { given: &GIVEN, apart: None, dir }, || Ok(()));
    child.ended();
    kept
}

#[test]
fn others_begin_where_it_stood() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    assert_eq!(first.ask("count"), "1");
    assert_eq!(first.ask("count"), "2");
    assert_eq!(first.ask("note what it is to remember"), "noted");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut others: Vec<_> = (0..3).map(|_| Child::revive(&dir, place.path())).collect();
    for other in &mut others {
        assert_eq!(other.ask("count"), "3");
        assert_eq!(other.ask("recall"), "what it is to remember");
    }
    // Each by itself from then on.
    assert_eq!(others[0].ask("count"), "4");
    assert_eq!(others[1].ask("count"), "4");
    assert_eq!(others[0].ask("note another thing"), "noted");
    assert_eq!(others[1].ask("recall"), "what it is to remember");
}

#[test]
fn threads_locks_and_memory_are_those_of_a_process() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    // A lock that knows its holder, held while it is kept.
    assert_eq!(first.ask("lock"), "0");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut other = Child::revive(&dir, place.path());
    assert_eq!(other.ask("unlock"), "0", "the holder is the thread that held it");
    assert_eq!(other.ask("beats"), "they go on");
    assert_eq!(other.ask("thread"), "joined");
    assert_eq!(other.ask("grow"), "67108864");
    assert_eq!(other.ask("deep"), "262144");
    assert_eq!(other.ask("float"), "0.3333333333333333");
    assert_eq!(other.ask("events"), "7");
    assert_eq!(other.ask("file"), "what stands in the file");
    assert_eq!(other.ask("signal"), "handled");
}

#[test]
fn a_file_is_opened_where_it_is_now() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    first.ask("count");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let moved = tempfile::tempdir().unwrap();
    fs::write(moved.path().join(child::FILE), "what stands in another").unwrap();
    let mut other = Child::revive_in(&dir, place.path(), moved.path());
    assert_eq!(other.ask("file"), "what stands in another");
}

#[test]
fn what_cannot_be_kept_is_named_and_ends() {
    let place = tempfile::tempdir().unwrap();
    for (order, told) in [("pipe", "pipe:"), ("share", "shares memory")] {
        let mut child = Child::start(place.path());
        assert_eq!(child.ask(order), "done");
        let error = keep(&mut child, &place.path().join(order)).unwrap_err();
        assert!(matches!(&error, CheckpointError::Unsupported { what } if what.contains(told)), "{error:?}");
    }
    let mut ended = Child::start(place.path());
    ended.kill();
    assert!(keep(&mut ended, &place.path().join("ended")).is_err());
}

#[test]
fn what_does_not_belong_here_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    first.ask("count");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let image = dir.join("process.json");
    let text = fs::read_to_string(&image).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let library = text.split("\"path\":\"").find(|path| path.contains("libc.so")).unwrap();
    let library = library.split('"').next().unwrap();
    let changes = [
        (boot.trim(), "0", "started anew"),
        ("checkpoint 2", "checkpoint 1", "wrote it"),
        (library, "/etc/hostname", "/etc/hostname has been replaced"),
        ("{", "", ""),
    ];
    for (from, to, told) in changes {
        fs::write(&image, text.replacen(from, to, 1)).unwrap();
        let error = Checkpoint::open(&dir).unwrap_err();
        assert!(matches!(&error, CheckpointError::Foreign { what } if what.contains(told)), "{error:?}");
    }
    fs::remove_file(&image).unwrap();
    assert!(matches!(Checkpoint::open(&dir), Err(CheckpointError::File { .. })));
}

#[test]
fn one_that_cannot_go_on_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    first.ask("count");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    fs::remove_file(dir.join("process.pages")).unwrap();
    let (mut child, revived) = Child::try_revive(&dir, place.path(), place.path(), &[]);
    assert!(matches!(revived, Err(CheckpointError::Call { .. })), "{revived:?}");
    child.kill();
}

/// A seccomp program: getppid (110) fails with EPERM, all other system calls are allowed.
fn without_getppid() -> Vec<u64> {
    let step = |code: u64, jt: u64, jf: u64, k: u64| code | jt << 16 | jf << 24 | k << 32;
    vec![
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, 110),
        step(0x06, 0, 0, 0x5_0001),
        step(0x06, 0, 0, 0x7fff_0000),
    ]
}

#[test]
fn a_filter_judges_all_threads() {
    let place = tempfile::tempdir().unwrap();
    // Whether the process had one or not.
    for order in ["confine", "hello"] {
        let mut first = Child::start(place.path());
        first.ask(order);
        let dir = place.path().join(order);
        keep(&mut first, &dir).unwrap();
        let (mut child, revived) = Child::try_revive(&dir, place.path(), place.path(), &[without_getppid()]);
        revived.unwrap();
        assert_eq!(child.ask("parent"), "-1", "{order}");
        assert_eq!(child.ask("thread parent"), "-1", "{order}");
    }
}

#[test]
fn a_process_that_had_filters_is_not_restored_without() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    assert_eq!(first.ask("confine"), "done");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let (mut child, revived) = Child::try_revive(&dir, place.path(), place.path(), &[]);
    assert!(matches!(revived, Err(CheckpointError::Unsupported { .. })), "{revived:?}");
    child.kill();
}
