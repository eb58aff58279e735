//! Checkpoints and restores real processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod child;
mod proc;

use std::fs;
use std::path::Path;

use child::Child;
use mimeo_checkpoint::{Checkpoint, CheckpointError, DumpRequest, checkpoint_process};

/// Descriptors that are passed to every child process.
const INHERITED: [i32; 4] = [0, 1, 2, child::SOCKET];

fn dump(child: &mut Child, dir: &Path) -> Result<(), CheckpointError> {
    dump_with_external(child, dir, None)
}

fn dump_with_external(child: &mut Child, dir: &Path, external: Option<&Path>) -> Result<(), CheckpointError> {
    fs::create_dir(dir).unwrap();
    let dumped =
        checkpoint_process(child.pid(), DumpRequest { inherited: &INHERITED, external, dir }, || Ok(()));
    child.ended();
    dumped
}

/// Replaces the file at a path, as an upgrade does.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn restored_processes_continue_where_the_dump_was_taken() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    assert_eq!(first.send("count"), "1");
    assert_eq!(first.send("count"), "2");
    assert_eq!(first.send("note the remembered text"), "noted");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let mut others: Vec<_> = (0..3).map(|_| Child::restore(&dir, files.path())).collect();
    for other in &mut others {
        assert_eq!(other.send("count"), "3");
        assert_eq!(other.send("recall"), "the remembered text");
    }
    // From here on they are independent.
    assert_eq!(others[0].send("count"), "4");
    assert_eq!(others[1].send("count"), "4");
    assert_eq!(others[0].send("note another thing"), "noted");
    assert_eq!(others[1].send("recall"), "the remembered text");
}

#[test]
fn threads_locks_and_memory_are_restored() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    // A mutex that records its owner, held during the dump.
    assert_eq!(first.send("lock"), "0");
    assert_eq!(first.send("wrlock"), "0");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let mut other = Child::restore(&dir, files.path());
    assert_eq!(other.send("unlock"), "0", "the owner is the thread that locked it");
    assert_eq!(other.send("wrunlock"), "0");
    assert_eq!(other.send("trywrlock"), "0", "the writer has unlocked it");
    assert_eq!(other.send("beats"), "running");
    assert_eq!(other.send("thread"), "joined");
    assert_eq!(other.send("grow"), "67108864");
    assert_eq!(other.send("deep"), "262144");
    assert_eq!(other.send("float"), "0.3333333333333333");
    assert_eq!(other.send("events"), "7");
    assert_eq!(other.send("file"), "HEAD the file's content");
    assert_eq!(other.send("signal"), "handled");
}

#[test]
fn files_are_reopened_at_their_new_paths() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    first.send("count");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let moved = tempfile::tempdir().unwrap();
    fs::write(moved.path().join(child::FILE), "another file's content").unwrap();
    let mut other = Child::restore_in(&dir, files.path(), moved.path());
    assert_eq!(other.send("file"), "another file's content");
}

#[test]
fn unsupported_state_is_named_and_the_process_is_killed() {
    let files = tempfile::tempdir().unwrap();
    let commands = [
        ("pipe", "pipe:"),
        ("share", "has a shared mapping"),
        ("lock-file posix", "has an unsupported lock: 1: POSIX"),
        ("mlock", "has the flags lo"),
        ("advised 102", "is a guard page"),
        ("alarm", "interval timer"),
        ("timer", "POSIX timer"),
        ("lock-kernel-mutex robust", "robust"),
        ("lock-kernel-mutex inheriting", "priority-inheriting"),
    ];
    for (command, expected) in commands {
        let mut child = Child::start(files.path());
        child.send(command);
        let error = dump(&mut child, &files.path().join(command)).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Unsupported { reason } if reason.contains(expected)),
            "{error:?}"
        );
    }
    let mut ended = Child::start(files.path());
    ended.kill();
    assert!(dump(&mut ended, &files.path().join("ended")).is_err());
}

#[test]
fn an_incompatible_checkpoint_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    first.send("count");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let image = dir.join("process.json");
    let text = fs::read_to_string(&image).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let library = text.split("\"path\":\"").find(|path| path.contains("libc.so")).unwrap();
    let library = library.split('"').next().unwrap();
    let changes = [
        (boot.trim(), "0", "rebooted"),
        ("checkpoint 2", "checkpoint 1", "written by"),
        (library, "/etc/hostname", "/etc/hostname has been replaced"),
        ("{", "", ""),
    ];
    for (old, new, expected) in changes {
        fs::write(&image, text.replacen(old, new, 1)).unwrap();
        let error = Checkpoint::open(&dir).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Incompatible { reason } if reason.contains(expected)),
            "{error:?}"
        );
    }
    fs::remove_file(&image).unwrap();
    assert!(matches!(Checkpoint::open(&dir), Err(CheckpointError::File { .. })));
}

#[test]
fn a_failed_restore_is_an_error() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    first.send("count");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    fs::remove_file(dir.join("process.pages")).unwrap();
    let (mut child, restored) = Child::try_restore(&dir, files.path(), files.path(), &[]);
    assert!(matches!(restored, Err(CheckpointError::Call { .. })), "{restored:?}");
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
fn filters_apply_to_all_threads() {
    let files = tempfile::tempdir().unwrap();
    // The process had filters before, or had none.
    for command in ["install-filter", "hello"] {
        let mut first = Child::start(files.path());
        first.send(command);
        let dir = files.path().join(command);
        dump(&mut first, &dir).unwrap();
        let (mut child, restored) =
            Child::try_restore(&dir, files.path(), files.path(), &[without_getppid()]);
        restored.unwrap();
        assert_eq!(child.send("parent"), "-1", "{command}");
        assert_eq!(child.send("thread parent"), "-1", "{command}");
    }
}

#[test]
fn a_process_with_filters_is_not_restored_without_filters() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    assert_eq!(first.send("install-filter"), "done");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let (mut child, restored) = Child::try_restore(&dir, files.path(), files.path(), &[]);
    assert!(matches!(restored, Err(CheckpointError::Unsupported { .. })), "{restored:?}");
    child.kill();
}

#[test]
fn descriptors_keep_flags_positions_and_locks() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    for command in ["flags", "lock-file ofd", "lock-file flock", "semaphore"] {
        assert_eq!(first.send(command), "done", "{command}");
    }
    assert_eq!(first.send("seek 5"), "5");
    let before = proc::descriptors(first.pid());
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let mut others: Vec<_> = (0..2).map(|_| Child::restore(&dir, files.path())).collect();
    for other in &mut others {
        assert_eq!(proc::descriptors(other.pid()), before);
        assert_eq!(other.send("rest"), "the file's content");
    }
}

#[test]
fn the_external_file_is_reopened_read_only() {
    let files = tempfile::tempdir().unwrap();
    let external = files.path().join("external");
    fs::write(&external, "x".repeat(4096)).unwrap();
    let mut first = Child::start(files.path());
    assert_eq!(first.send(&format!("map {}", external.display())), "done");
    assert_eq!(proc::access(first.pid(), &external), 2);
    let dir = files.path().join("checkpoint");
    dump_with_external(&mut first, &dir, Some(&external)).unwrap();
    let mut other = Child::restore_external(&dir, files.path(), &external);
    assert_eq!(other.send("mapped"), "x");
    assert_eq!(proc::access(other.pid(), &external), 0);
}

#[test]
fn a_removed_or_replaced_mapped_file_is_refused_at_the_dump() {
    let files = tempfile::tempdir().unwrap();
    let library = files.path().join("library");
    type Change = fn(&Path);
    let changes: [(&str, Change); 2] = [
        ("removed", |library| fs::remove_file(library).unwrap()),
        ("replaced", |library| replace(library, &"b".repeat(4096))),
    ];
    for (name, change) in changes {
        fs::write(&library, "a".repeat(4096)).unwrap();
        let mut child = Child::start(files.path());
        assert_eq!(child.send(&format!("map {}", library.display())), "done");
        assert_eq!(child.send("close-mapped"), "done");
        change(&library);
        let error = dump(&mut child, &files.path().join(name)).unwrap_err();
        let CheckpointError::Unsupported { reason } = &error else { panic!("{error:?}") };
        assert!(reason.contains("library (deleted) is mapped"), "{reason}");
    }
}

#[test]
fn a_file_replaced_before_the_restore_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let library = files.path().join("library");
    let content = "a".repeat(4096);
    fs::write(&library, &content).unwrap();
    let mut first = Child::start(files.path());
    assert_eq!(first.send(&format!("map {}", library.display())), "done");
    assert_eq!(first.send("close-mapped"), "done");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let pages = dir.join("process.pages");
    for (file, replaced) in [(&library, content.clone()), (&pages, "b".repeat(4096))] {
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let original = files.path().join("original");
        fs::rename(file, &original).unwrap();
        fs::write(file, replaced).unwrap();
        let mut child = Child::stopped(&checkpoint, files.path(), files.path());
        let error = checkpoint.restore(child.pid(), None, &[]).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Incompatible { reason } if reason.contains("replaced")),
            "{error:?}"
        );
        child.kill();
        fs::rename(&original, file).unwrap();
    }
    assert_eq!(Child::restore(&dir, files.path()).send("mapped"), "a");
}

#[test]
fn madvise_flags_are_restored() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    let advice = [libc::MADV_DONTFORK, libc::MADV_DONTDUMP, libc::MADV_NOHUGEPAGE, libc::MADV_RANDOM];
    let addresses = advice.map(|advice| first.send(&format!("advised {advice}")));
    let before = addresses.each_ref().map(|address| proc::mapping_flags(first.pid(), address));
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let mut other = Child::restore(&dir, files.path());
    let after = addresses.each_ref().map(|address| proc::mapping_flags(other.pid(), address));
    assert_eq!(after, before);
    assert!(addresses.iter().all(|address| other.send(&format!("byte {address}")) == "1"));
}

#[test]
fn wipe_on_fork_and_droppable_memory_is_zero() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    let addresses = [first.send("droppable"), first.send(&format!("advised {}", libc::MADV_WIPEONFORK))];
    let before = addresses.each_ref().map(|address| proc::mapping_flags(first.pid(), address));
    let byte = |child: &mut Child, address: &String| child.send(&format!("byte {address}"));
    assert!(addresses.iter().all(|address| byte(&mut first, address) == "1"));
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    let mut other = Child::restore(&dir, files.path());
    assert_eq!(addresses.each_ref().map(|address| proc::mapping_flags(other.pid(), address)), before);
    assert!(addresses.iter().all(|address| byte(&mut other, address) == "0"));
}

#[test]
fn pending_signals_and_alternate_stacks_are_restored() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    assert_eq!(first.send("send-signals"), "done");
    let stack = first.send("alternate-stack");
    let dir = files.path().join("checkpoint");
    dump(&mut first, &dir).unwrap();
    for _ in 0..2 {
        let mut other = Child::restore(&dir, files.path());
        assert_eq!(other.send("alternate-stack"), stack);
        assert_eq!(other.send("take-signals"), "42 43");
        assert_eq!(other.send("take-signals"), "-1 -1");
    }
}

#[test]
fn membarrier_registrations_are_restored() {
    let files = tempfile::tempdir().unwrap();
    for (name, commands) in
        [("listed", &["register-barrier"][..]), ("probed", &["register-barrier", "hide-registrations"])]
    {
        let mut first = Child::start(files.path());
        commands.iter().for_each(|command| drop(first.send(command)));
        let dir = files.path().join(name);
        dump(&mut first, &dir).unwrap();
        let (mut other, restored) =
            Child::try_restore(&dir, files.path(), files.path(), &[without_getppid()]);
        restored.unwrap();
        assert_eq!(other.send("barrier"), "0", "{name}");
    }
    let mut first = Child::start(files.path());
    assert_eq!(first.send("barrier"), "-1", "a process that is not registered");
    let dir = files.path().join("none");
    dump(&mut first, &dir).unwrap();
    assert_eq!(Child::restore(&dir, files.path()).send("barrier"), "-1");
}

#[test]
fn the_dump_waits_until_no_mutex_is_held() {
    let files = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let mut first = Child::start(files.path());
        assert_eq!(first.send("lock-often"), "done");
        let dir = files.path().join(round.to_string());
        dump(&mut first, &dir).unwrap();
        let image = fs::read_to_string(dir.join("process.json")).unwrap();
        assert!(image.contains("\"owners\":[]"), "a mutex was held in round {round}");
    }
}

#[test]
fn threads_may_exit_during_the_dump() {
    let files = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let mut first = Child::start(files.path());
        assert_eq!(first.send("churn"), "done");
        let dir = files.path().join(round.to_string());
        dump(&mut first, &dir).unwrap();
        assert_eq!(Child::restore(&dir, files.path()).send("hello"), "hello");
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_zombie_thread_is_skipped() {
    let files = tempfile::tempdir().unwrap();
    let mut first = Child::start(files.path());
    let tid = first.send("linger");
    // It stays a zombie, which no other process can trace, until its tracer reaps it.
    let tracer = child::trace(tid.parse().unwrap());
    assert_eq!(first.send(&format!("release {tid}")), "done");
    let dir = files.path().join("checkpoint");
    fs::create_dir(&dir).unwrap();
    let dumped = checkpoint_process(
        first.pid(),
        DumpRequest { inherited: &INHERITED, external: None, dir: &dir },
        || Ok(()),
    );
    tracer.end();
    first.ended();
    dumped.unwrap();
    assert_eq!(Child::restore(&dir, files.path()).send("beats"), "running");
}
