//! Runs start warm: they are restored from a boot snapshot.

use std::fs;
use std::path::PathBuf;

use e2e::{Outcome, RetryDelay, User, World, as_root_and_user, flip_byte, installed_qemu, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Runs a machine to its end; returns its boot method and the reason.
#[track_caller]
fn booted(world: &World, args: &[&str]) -> (String, Value) {
    world.mimeo(["run", "--name", "job"].iter().chain(args)).code(0).printed("fine\n");
    let machine = world.inspect("job");
    world.mimeo(["rm", "job"]).ok();
    (machine["BootMethod"].as_str().expect("a word").to_owned(), machine["BootReason"].clone())
}

/// The directories of the boot snapshots.
fn boot_snapshots(world: &World) -> Vec<PathBuf> {
    let dirs = fs::read_dir(world.home().join("snapshots")).expect("readable").flatten();
    dirs.map(|entry| entry.path())
        .filter(|dir| !dir.file_name().expect("a name").to_string_lossy().starts_with('.'))
        .collect()
}

as_root_and_user!(the_first_run_makes_the_boot_snapshot, |world| {
    let world = World::cold(world.user());
    let image = world.busybox();
    assert_eq!(booted(&world, &[&image, "echo", "fine"]), ("warm".into(), Value::Null));
    let made = boot_snapshots(&world);
    assert_eq!(made.len(), 1);
    assert_eq!(booted(&world, &[&image, "echo", "fine"]), ("warm".into(), Value::Null));
    // Each guest configuration has its own boot snapshot.
    assert_eq!(booted(&world, &["-m", "128m", &image, "echo", "fine"]).0, "warm");
    assert_eq!(boot_snapshots(&world).len(), 2);
    world.assert_empty();
});

#[test]
fn the_cold_option_boots_the_guest() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let (method, reason) = booted(&world, &["--cold", &image, "echo", "fine"]);
    assert_eq!((method.as_str(), reason.as_str()), ("cold", Some("asked for with --cold")));
    world.assert_empty();
}

#[test]
fn concurrent_first_runs_make_one_snapshot() {
    let world = World::cold(User::Root);
    let image = world.busybox();
    world.mimeo(["pull", "-q", &image]).code(0);
    let children: Vec<_> = (0..3).map(|_| world.spawn(["run", "--rm", &image, "echo", "fine"])).collect();
    children.into_iter().for_each(|child| drop(Outcome::wait_for(child).ok().printed("fine\n")));
    assert_eq!(boot_snapshots(&world).len(), 1);
    world.assert_empty();
}

#[test]
fn another_qemu_gets_its_own_snapshot() {
    let world = World::new(User::Root);
    let image = world.busybox();
    assert_eq!(booted(&world, &[&image, "echo", "fine"]).0, "warm");
    assert_eq!(boot_snapshots(&world).len(), 1);
    // Simulates an update: another program with the same name.
    let bin = world.files().join("bin");
    fs::create_dir(&bin).expect("a directory");
    std::os::unix::fs::symlink(installed_qemu(), bin.join("qemu-system-x86_64")).expect("linked");
    for _ in 0..2 {
        let mut command = world.command(["run", "--name", "job", &image, "echo", "fine"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        world.finish(command).code(0).printed("fine\n");
        assert_eq!(world.inspect("job")["BootMethod"], "warm");
        assert_eq!(boot_snapshots(&world).len(), 2);
        world.mimeo(["rm", "job"]).ok();
    }
    world.assert_empty();
}

#[test]
fn a_damaged_snapshot_is_rebuilt_after_a_cold_boot() {
    for file in ["memory", "state", "manifest.json", "manifest.blake3"] {
        let world = World::new(User::Root);
        let image = world.busybox();
        let before = boot_snapshots(&world);
        flip_byte(&before[0].join(file));
        let (method, reason) = booted(&world, &[&image, "echo", "fine"]);
        if file.starts_with("manifest") {
            // Without a valid manifest it is not recognised as a boot snapshot, so a new one is made.
            assert_eq!((method.as_str(), reason), ("warm", Value::Null), "{file}");
        } else {
            let path = before[0].join(file).display().to_string();
            assert!(
                method == "cold" && reason.as_str().is_some_and(|reason| reason.contains(&path)),
                "{reason}"
            );
        }
        assert_eq!(booted(&world, &[&image, "echo", "fine"]).0, "warm", "{file}");
        assert_ne!(boot_snapshots(&world), before, "{file}");
        assert_eq!(boot_snapshots(&world).len(), 1, "{file}");
        // It is not reported again.
        world.mimeo(["run", "--rm", &image, "echo", "fine"]).ok().printed("fine\n");
        world.assert_empty();
    }
}

#[test]
fn a_damaged_parent_is_not_used_again() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    world.snapshot("web", "saved");
    let damaged =
        boot_snapshots(&world).into_iter().find(|dir| *dir != world.snapshot_dir("saved")).expect("one");
    flip_byte(&damaged.join("memory"));
    assert_eq!(booted(&world, &[&image, "echo", "fine"]).0, "cold");
    assert_eq!(booted(&world, &[&image, "echo", "fine"]).0, "warm");
    // A snapshot that is built on it is refused, and the damaged file is named.
    let file = damaged.join("memory").display().to_string();
    world.mimeo(["snapshot", "run", "saved"]).code(125).stderr_contains(&file).stderr_contains("damaged");
    world.assert_removes_all();
}

#[test]
fn a_failed_restore_falls_back_to_a_cold_boot() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let web = world.inspect("web")["State"]["VmmPid"].as_i64();
    // A restore from a stencil is too fast to be interrupted.
    world.mark_stencils_failed(RetryDelay::Pending);
    let child = world.spawn(["run", "--name", "job", &image, "echo", "fine"]);
    let vmm = until("QEMU restores the saved state", || {
        let mut others = world.processes().into_iter().filter(|(pid, _)| Some(i64::from(*pid)) != web);
        others.find(|(_, arguments)| arguments.contains("-incoming"))
    });
    kill_process(Pid::from_raw(vmm.0).expect("a process id"), Signal::KILL).expect("QEMU runs");
    Outcome::wait_for(child).code(0).printed("fine\n");
    let machine = world.inspect("job");
    assert_eq!(machine["BootMethod"], "cold", "{machine:#}");
    world.mimeo(["rm", "job"]).ok();
    assert_eq!(booted(&world, &[&image, "echo", "fine"]).0, "warm");
    // A machine that was started from the discarded boot snapshot can still be cloned.
    world.snapshot("web", "saved");
    world.clones(&["saved", "--name", "clone"]);
    assert_eq!(world.sh("clone", "echo on"), "on");
    world.assert_removes_all();
}

/// Ends the retry delays of all failed boot snapshots.
fn end_retry_delays(world: &World) {
    for entry in fs::read_dir(world.run_dir()).expect("readable").flatten() {
        if entry.file_name().to_string_lossy().starts_with("failed-") {
            let text = fs::read_to_string(entry.path()).expect("readable");
            let mut failure: Value = serde_json::from_str(&text).expect("JSON");
            failure["until"] = "2020-01-01T00:00:00Z".into();
            fs::write(entry.path(), failure.to_string()).expect("written");
        }
    }
}

#[test]
fn a_failure_is_reported_once_and_retried_in_the_background() {
    let world = World::on_disk_of(900 << 20);
    let image = world.busybox();
    world.mimeo(["pull", "-q", &image]).code(0);
    // Enough space for a machine, but not for a boot snapshot.
    let filler = world.home().join("filler");
    let free = rustix::fs::statvfs(world.home()).expect("a filesystem");
    let bytes = (free.f_bavail * free.f_frsize) - (24 << 20);
    fs::write(&filler, vec![1; bytes as usize]).expect("there is enough space");
    let run = || world.mimeo(["run", "--name", "job", &image, "echo", "fine"]).code(0).printed("fine\n");
    let reason = || {
        let machine = world.inspect("job");
        world.mimeo(["rm", "job"]).ok();
        (machine["BootMethod"].clone(), machine["BootReason"].as_str().unwrap_or_default().to_owned())
    };
    assert!(run().stderr.contains("No space left"));
    assert!(reason().1.contains("No space left"));
    // Later runs do not retry it; `inspect` shows the reason.
    assert_eq!(run().stderr, "");
    let (method, text) = reason();
    assert!(
        method == "cold" && text.contains("not retried before") && text.contains("No space left"),
        "{text}"
    );
    // The retry fails too, without a message.
    end_retry_delays(&world);
    assert_eq!(run().stderr, "");
    assert!(reason().1.contains("retried in the background"));
    world.wait_until_no_process();
    assert_eq!(boot_snapshots(&world), Vec::<PathBuf>::new());
    run();
    assert!(reason().1.contains("not retried before"));
    // With enough space the retry succeeds in the background, and the next run uses the snapshot.
    fs::remove_file(&filler).expect("removed");
    end_retry_delays(&world);
    assert_eq!(run().stderr, "");
    assert!(reason().1.contains("retried in the background"));
    world.wait_until_no_process();
    assert_eq!(boot_snapshots(&world).len(), 1);
    run();
    assert_eq!(reason(), ("warm".into(), String::new()));
    world.assert_empty();
}
