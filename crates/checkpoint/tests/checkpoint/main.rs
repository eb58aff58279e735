//! Keeps real processes, and has others begin as them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod child;
mod proc;

use std::fs;
use std::path::Path;

use child::Child;
use mimeo_checkpoint::{Checkpoint, CheckpointError, Wanted, take};

/// Descriptors that every child is given.
const GIVEN: [i32; 4] = [0, 1, 2, child::SOCKET];

fn keep(child: &mut Child, dir: &Path) -> Result<(), CheckpointError> {
    keep_with(child, dir, None)
}

fn keep_with(child: &mut Child, dir: &Path, external: Option<&Path>) -> Result<(), CheckpointError> {
    fs::create_dir(dir).unwrap();
    let kept = take(child.pid(), Wanted { given: &GIVEN, apart: external, dir }, || Ok(()));
    child.ended();
    kept
}

/// Puts another file at a path, as an upgrade does.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
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
    assert_eq!(first.ask("wrlock"), "0");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut other = Child::revive(&dir, place.path());
    assert_eq!(other.ask("unlock"), "0", "the holder is the thread that held it");
    assert_eq!(other.ask("wrunlock"), "0");
    assert_eq!(other.ask("trywrlock"), "0", "it was the writer that let go");
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
    let orders = [
        ("pipe", "pipe:"),
        ("share", "shares memory"),
        ("lock-file posix", "has a lock of another kind: 1: POSIX"),
        ("mlock", "has the flags lo"),
        ("advised 102", "has a guard page"),
        ("alarm", "interval timer"),
        ("timer", "POSIX timer"),
        ("lock-kernels robust", "robust"),
        ("lock-kernels inheriting", "priority-inheriting"),
    ];
    for (order, told) in orders {
        let mut child = Child::start(place.path());
        child.ask(order);
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

#[test]
fn descriptors_have_the_flags_positions_and_locks_that_they_had() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    for order in ["flags", "lock-file ofd", "lock-file flock", "semaphore"] {
        assert_eq!(first.ask(order), "done", "{order}");
    }
    assert_eq!(first.ask("seek 5"), "5");
    let before = proc::descriptors(first.pid());
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut others: Vec<_> = (0..2).map(|_| Child::revive(&dir, place.path())).collect();
    for other in &mut others {
        assert_eq!(proc::descriptors(other.pid()), before);
        assert_eq!(other.ask("rest"), "stands in the file");
    }
}

#[test]
fn the_external_file_is_open_for_reading_only() {
    let place = tempfile::tempdir().unwrap();
    let external = place.path().join("external");
    fs::write(&external, "x".repeat(4096)).unwrap();
    let mut first = Child::start(place.path());
    assert_eq!(first.ask(&format!("map {}", external.display())), "done");
    assert_eq!(proc::access(first.pid(), &external), 2);
    let dir = place.path().join("kept");
    keep_with(&mut first, &dir, Some(&external)).unwrap();
    let mut other = Child::revive_external(&dir, place.path(), &external);
    assert_eq!(other.ask("mapped"), "x");
    assert_eq!(proc::access(other.pid(), &external), 0);
}

#[test]
fn a_mapped_file_that_is_gone_or_replaced_is_refused_at_the_dump() {
    let place = tempfile::tempdir().unwrap();
    let library = place.path().join("library");
    type Change = fn(&Path);
    let changes: [(&str, Change); 2] = [
        ("removed", |library| fs::remove_file(library).unwrap()),
        ("replaced", |library| replace(library, &"b".repeat(4096))),
    ];
    for (name, change) in changes {
        fs::write(&library, "a".repeat(4096)).unwrap();
        let mut child = Child::start(place.path());
        assert_eq!(child.ask(&format!("map {}", library.display())), "done");
        assert_eq!(child.ask("close-mapped"), "done");
        change(&library);
        let error = keep(&mut child, &place.path().join(name)).unwrap_err();
        let CheckpointError::Unsupported { what } = &error else { panic!("{error:?}") };
        assert!(what.contains("library (deleted) mapped"), "{what}");
    }
}

#[test]
fn a_file_that_is_replaced_during_a_restore_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let library = place.path().join("library");
    let content = "a".repeat(4096);
    fs::write(&library, &content).unwrap();
    let mut first = Child::start(place.path());
    assert_eq!(first.ask(&format!("map {}", library.display())), "done");
    assert_eq!(first.ask("close-mapped"), "done");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let pages = dir.join("process.pages");
    for (file, replaced) in [(&library, content.clone()), (&pages, "b".repeat(4096))] {
        let kept = Checkpoint::open(&dir).unwrap();
        let original = place.path().join("original");
        fs::rename(file, &original).unwrap();
        fs::write(file, replaced).unwrap();
        let mut child = Child::stopped(&kept, place.path(), place.path());
        let error = kept.revive(child.pid(), None, &[]).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Foreign { what } if what.contains("replaced")),
            "{error:?}"
        );
        child.kill();
        fs::rename(&original, file).unwrap();
    }
    assert_eq!(Child::revive(&dir, place.path()).ask("mapped"), "a");
}

#[test]
fn advice_for_memory_is_given_again() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    let advice = [libc::MADV_DONTFORK, libc::MADV_DONTDUMP, libc::MADV_NOHUGEPAGE, libc::MADV_RANDOM];
    let addresses = advice.map(|advice| first.ask(&format!("advised {advice}")));
    let before = addresses.each_ref().map(|address| proc::mapping_flags(first.pid(), address));
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut other = Child::revive(&dir, place.path());
    let after = addresses.each_ref().map(|address| proc::mapping_flags(other.pid(), address));
    assert_eq!(after, before);
    assert!(addresses.iter().all(|address| other.ask(&format!("byte {address}")) == "1"));
}

#[test]
fn memory_that_must_not_repeat_is_zero() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    let addresses = [first.ask("droppable"), first.ask(&format!("advised {}", libc::MADV_WIPEONFORK))];
    let before = addresses.each_ref().map(|address| proc::mapping_flags(first.pid(), address));
    let byte = |child: &mut Child, address: &String| child.ask(&format!("byte {address}"));
    assert!(addresses.iter().all(|address| byte(&mut first, address) == "1"));
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    let mut other = Child::revive(&dir, place.path());
    assert_eq!(addresses.each_ref().map(|address| proc::mapping_flags(other.pid(), address)), before);
    assert!(addresses.iter().all(|address| byte(&mut other, address) == "0"));
}

#[test]
fn signals_that_wait_and_their_stacks_are_restored() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    assert_eq!(first.ask("send"), "done");
    let stack = first.ask("alternate-stack");
    let dir = place.path().join("kept");
    keep(&mut first, &dir).unwrap();
    for _ in 0..2 {
        let mut other = Child::revive(&dir, place.path());
        assert_eq!(other.ask("alternate-stack"), stack);
        assert_eq!(other.ask("taken"), "42 43");
        assert_eq!(other.ask("taken"), "-1 -1");
    }
}

#[test]
fn registrations_for_barriers_are_made_again() {
    let place = tempfile::tempdir().unwrap();
    for (name, orders) in
        [("listed", &["register-barrier"][..]), ("probed", &["register-barrier", "hide-registrations"])]
    {
        let mut first = Child::start(place.path());
        orders.iter().for_each(|order| drop(first.ask(order)));
        let dir = place.path().join(name);
        keep(&mut first, &dir).unwrap();
        let (mut other, revived) = Child::try_revive(&dir, place.path(), place.path(), &[without_getppid()]);
        revived.unwrap();
        assert_eq!(other.ask("barrier"), "0", "{name}");
    }
    let mut first = Child::start(place.path());
    assert_eq!(first.ask("barrier"), "-1", "one that has not registered");
    let dir = place.path().join("none");
    keep(&mut first, &dir).unwrap();
    assert_eq!(Child::revive(&dir, place.path()).ask("barrier"), "-1");
}

#[test]
fn it_is_dumped_while_no_mutex_is_held() {
    let place = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let mut first = Child::start(place.path());
        assert_eq!(first.ask("lock-often"), "done");
        let dir = place.path().join(round.to_string());
        keep(&mut first, &dir).unwrap();
        let image = fs::read_to_string(dir.join("process.json")).unwrap();
        assert!(image.contains("\"owners\":[]"), "a mutex was held in round {round}");
    }
}

#[test]
fn threads_that_end_meanwhile_are_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let mut first = Child::start(place.path());
        assert_eq!(first.ask("churn"), "done");
        let dir = place.path().join(round.to_string());
        keep(&mut first, &dir).unwrap();
        assert_eq!(Child::revive(&dir, place.path()).ask("hello"), "hello");
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_thread_that_has_ended_is_skipped() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Child::start(place.path());
    let tid = first.ask("linger");
    // Stays a zombie, which nobody else may trace, until its tracer sees its end.
    let tracer = child::trace(tid.parse().unwrap());
    assert_eq!(first.ask(&format!("release {tid}")), "done");
    let dir = place.path().join("kept");
    fs::create_dir(&dir).unwrap();
    let kept = take(first.pid(), Wanted { given: &GIVEN, apart: None, dir: &dir }, || Ok(()));
    tracer.end();
    first.ended();
    kept.unwrap();
    assert_eq!(Child::revive(&dir, place.path()).ask("beats"), "they go on");
}
