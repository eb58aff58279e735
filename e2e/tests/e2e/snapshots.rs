//! `mimeo snapshot create`, `ls`, `inspect`, `rm`, `prune`: live snapshots of a
//! running machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{Outcome, Poller, User, World, as_root_and_user, flip_byte, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SERVE: &str = "mkdir /www; echo page > /www/index.html; httpd -p 8000 -h /www; \
                     exec nc -ll -p 7 -e cat";
/// Counts in memory and on the disk, and records when the two differ.
const COUNT: &str = "n=0; echo 0 > /count; while :; do [ \"$(cat /count)\" = $n ] || echo $n >> /differed; \
                     n=$((n+1)); echo $n > /count; sleep 0.01; done";

fn kill(pid: i64) {
    kill_process(Pid::from_raw(pid as i32).expect("a process id"), Signal::KILL).expect("the process runs");
}

fn pid(world: &World, machine: &str) -> i64 {
    world.inspect(machine)["State"]["Pid"].as_i64().expect("a process id")
}

fn serve(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-p", "127.0.0.1::8000", "-p", "127.0.0.1::7", &image, "sh", "-c", SERVE]);
    until("the page is served", || world.fetch_page(&world.published("web", "8000")));
}

as_root_and_user!(snapshots_are_listed_inspected_and_removed, |world| {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    let id = world.mimeo(["snapshot", "create", "web"]).ok().text().to_owned();
    assert_eq!(id.len(), 64);
    let pid = pid(world, "web").to_string();
    world.mimeo(["snapshot", "create", "--pid", &pid, "-t", "saved"]).ok();
    world
        .mimeo(["snapshot", "create", "web", "-t", "saved"])
        .code(125)
        .stderr_contains("the tag \"saved\" is in use");
    let table = world.mimeo(["snapshot", "ls"]).ok();
    let lines: Vec<_> = table.stdout.lines().collect();
    let headings: Vec<_> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(
        headings,
        ["SNAPSHOT ID", "TAG", "KIND", "MACHINE", "CREATED", "MEMORY", "CLONES"],
        "{table:#?}"
    );
    assert!(lines.len() == 3 && lines[1].starts_with(&id[..12]) && lines[2].contains("saved"), "{table:#?}");
    let shown = world.mimeo(["snapshot", "inspect", "saved", &id[..6]]).ok().json();
    for (pointer, expected) in [
        ("/0/tag", json!("saved")),
        ("/0/kind", json!("snapshot")),
        ("/0/format", json!(1)),
        ("/0/machine/name", json!("web")),
        ("/0/requires/driver", json!("qemu")),
        ("/0/requires/memory_mib", json!(128)),
        ("/1/id", json!(id)),
        ("/1/tag", Value::Null),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer}: {shown:#}");
    }
    world
        .mimeo(["snapshot", "inspect", "nobody"])
        .code(125)
        .stderr_contains("no snapshot with tag or id \"nobody\"");
    world.mimeo(["snapshot", "rm", "nobody", "saved"]).code(125).stderr_contains("nobody").printed("saved\n");
    world.mimeo(["snapshot", "prune"]).ok().printed("");
    world.mimeo(["snapshot", "ls", "-q"]).ok().printed(&format!("{}\n", &id[..12]));
    let pruned = world.mimeo(["snapshot", "prune", "--all"]).ok();
    assert!(pruned.stdout.contains(&id[..12]), "{pruned:#?}");
    world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
});

#[test]
fn a_snapshot_only_pauses_its_source() {
    let world = World::new(User::Root);
    serve(&world);
    let pages = Poller::pages(&world.published("web", "8000"));
    let lines = Poller::lines(&world.published("web", "7"));
    std::thread::sleep(Duration::from_millis(500));
    let saved = world.snapshot("web", "saved");
    world.mimeo(["snapshot", "create", "web"]).ok();
    std::thread::sleep(Duration::from_millis(500));
    for took in [pages.stop(), lines.stop()] {
        assert!(took.len() > 20, "{took:?}");
        let longest = took.iter().max().expect("some");
        assert!(*longest < Duration::from_secs(2), "{longest:?} without a response: {saved}");
    }
    assert!(saved["pause_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 2000.0), "{saved}");
    world.assert_removes_all();
}

#[test]
fn memory_and_disk_are_consistent() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "96m", &image, "sh", "-c", COUNT]);
    // More data than the guest's memory holds.
    world.sh("web", "yes before | head -c 60000000 > /big; sync; echo before > /file");
    let sum = world.sh("web", "md5sum < /big");
    world.snapshot("web", "saved");
    world.sh(
        "web",
        "echo after > /file; echo new > /new; yes after | head -c 1000000 | dd of=/big conv=notrunc 2>&-",
    );
    world.clones(&["saved", "--name", "clone"]);
    let found = world.sh("clone", "cat /file; ls /new 2>&1; md5sum < /big");
    assert_eq!(found, format!("before\nls: /new: No such file or directory\n{sum}"));
    let count = || world.sh("clone", "cat /count").parse::<u64>().unwrap_or_default();
    let before = count();
    until("the clone counts on", || (count() > before).then_some(()));
    for name in ["clone", "web"] {
        assert_eq!(world.sh(name, "cat /differed 2>&-; true"), "", "{name}");
    }
    assert_eq!(world.sh("web", "cat /file /new"), "after\nnew");
    world.assert_removes_all();
}

#[test]
fn a_refused_snapshot_leaves_its_source_running() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let files = format!("{}:/data", world.files().display());
    world.start(["--name", "shared", "-v", &files, &image, "sleep", "1000"]);
    world
        .mimeo(["snapshot", "create", "shared"])
        .code(125)
        .stderr_contains("it has directories of the host as volumes");
    assert_eq!(world.sh("shared", "echo on"), "on");
    world.start(["--name", "frozen", &image, "sleep", "1000"]);
    world.mimeo(["pause", "frozen"]).ok();
    world.mimeo(["snapshot", "create", "frozen"]).code(125).stderr_contains("it is paused");
    world.mimeo(["unpause", "frozen"]).ok();
    assert_eq!(world.sh("frozen", "echo on"), "on");
    world.mimeo(["snapshot", "create", "nobody"]).code(125).stderr_contains("no such container");
    world.mimeo(["snapshot", "create", "shared", "-t", "../x"]).code(125).stderr_contains("../x");
    world.assert_removes_all();
}

#[test]
fn a_clone_is_saved_as_a_diff_of_its_parent() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh("web", "echo one > /file; head -c 20000000 /dev/urandom > /tmp/noise");
    let first = world.snapshot("web", "first");
    world.clones(&["first", "--name", "clone"]);
    world.sh("clone", "echo two >> /file");
    let second = world.snapshot("clone", "second");
    let bytes = |saved: &Value| saved["memory_bytes"].as_u64().expect("bytes");
    assert!(bytes(&second) < bytes(&first) / 2, "{first} {second}");
    let parent = world.mimeo(["snapshot", "inspect", "second"]).ok().json()[0]["parent"].clone();
    assert_eq!(parent, first["id"]);
    world
        .mimeo(["snapshot", "rm", "first"])
        .code(125)
        .stderr_contains("which is in use by")
        .stderr_contains("snapshot second");
    world.mimeo(["rm", "-f", "clone", "web"]).ok();
    world.mimeo(["snapshot", "prune", "--all"]).ok();
    world.assert_empty();
}

#[test]
fn chained_clones_keep_all_data() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "c0", "-m", "128m", &image, "sleep", "1000"]);
    for n in 0..4 {
        let (this, next, tag) = (format!("c{n}"), format!("c{}", n + 1), format!("t{n}"));
        world.sh(&this, &format!("echo {n} >> /file; echo {n} >> /dev/shm/memory"));
        world.snapshot(&this, &tag);
        world.clones(&[&tag, "--name", &next]);
        world.mimeo(["rm", "-f", &this]).ok();
    }
    assert_eq!(world.sh("c4", "cat /file /dev/shm/memory"), "0\n1\n2\n3\n0\n1\n2\n3");
    world.assert_removes_all();
}

#[test]
fn a_source_killed_during_a_snapshot_leaves_nothing() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let snapshots = world.home().join("snapshots");
    let draft = || {
        let entries = fs::read_dir(&snapshots).expect("readable").flatten();
        entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/.new-"))
    };
    for file in ["memory", "state", "memory.pages"] {
        world.start(["--name", "web", "--rm", "-m", "256m", &image, "sleep", "1000"]);
        world.sh("web", "head -c 60000000 /dev/urandom > /dev/shm/noise");
        let supervisor = pid(&world, "web");
        let saving = world.spawn(["snapshot", "create", "web", "-t", "saved"]);
        until("the snapshot is being written", || draft().filter(|draft| draft.join(file).exists()));
        kill(supervisor);
        let saved = Outcome::wait_for(saving);
        assert_ne!(saved.code, 0, "{file}: {saved:#?}");
        // Threads of a killed process may hold its lock a little longer.
        until("the sweep has finished", || {
            let listed = world.mimeo(["ps", "-aq"]).code(0);
            (listed.stdout.is_empty() && listed.stderr.is_empty()).then_some(())
        });
        world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
        assert_eq!(draft(), None, "{file}");
        world.assert_empty();
    }
}

#[test]
fn a_full_disk_fails_the_snapshot_not_its_source() {
    let world = World::on_disk_of(200 << 20);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", "--cold", &image, "sleep", "1000"]);
    // Otherwise the guest's pending writes would fill the disk first.
    world.sh("web", "sync");
    let filler = world.home().join("filler");
    for free in [60_000, 1_000_000, 20_000_000] {
        fill(&world.home(), &filler, free);
        world.mimeo(["snapshot", "create", "web", "-t", "saved"]).code(125).stderr_contains("No space left");
        assert_eq!(world.sh("web", "echo on"), "on", "{free}");
        world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
        fs::remove_file(&filler).expect("removed");
    }
    assert_eq!(world.sh("web", "echo written > /file; sync; cat /file"), "written");
    world.snapshot("web", "saved");
    world.assert_removes_all();
}

/// Writes a file that leaves `free` bytes on the disk.
fn fill(dir: &Path, filler: &Path, free: u64) {
    let stat = rustix::fs::statvfs(dir).expect("a filesystem");
    let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(free);
    fs::write(filler, vec![1; bytes as usize]).expect("there is enough space");
}

#[test]
fn any_flipped_byte_is_found_before_a_restore() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh("web", "echo one > /file; sync");
    world.snapshot("web", "saved");
    world.mimeo(["rm", "-f", "web"]).ok();
    let dir = world.snapshot_dir("saved");
    let parent = world.mimeo(["snapshot", "inspect", "saved"]).ok().json()[0]["parent"].clone();
    let parent = world.home().join("snapshots").join(&parent.as_str().expect("a runtime snapshot")[..12]);
    let mut files: Vec<_> = [&dir, &parent]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).expect("readable").flatten().map(|entry| entry.path()))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    // A fake QEMU that records that it was started.
    let mark = world.files().join("started");
    world.file("bin/qemu-system-x86_64", format!("#!/bin/sh\ntouch {}\n", mark.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.files().join("bin/qemu-system-x86_64"), mode).expect("permissions");
    for file in files {
        let before = file.with_extension("before");
        fs::hard_link(&file, &before).expect("linked");
        flip_byte(&file);
        let mut command = world.command(["snapshot", "run", "saved"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", world.files().join("bin").display()));
        // A wrong digest file is reported under the name of its manifest.
        let named = file.display().to_string().replace("manifest.blake3", "manifest.json");
        world.finish(command).code(125).stderr_contains(&named);
        assert!(!mark.exists(), "QEMU was started on {}", file.display());
        fs::rename(before, &file).expect("restored");
        world.mimeo(["ps", "-aq"]).ok().printed("");
    }
    world.clones(&["saved", "--name", "clone"]);
    assert_eq!(world.sh("clone", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_damaged_snapshot_can_be_removed() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    for selector in ["tag", "id"] {
        let saved = world.snapshot("web", "saved");
        flip_byte(&world.snapshot_dir("saved").join("manifest.json"));
        world.mimeo(["snapshot", "inspect", "saved"]).code(125).stderr_contains("manifest.json is damaged");
        let named = if selector == "tag" { "saved" } else { saved["id"].as_str().expect("an id") };
        world.mimeo(["snapshot", "rm", named]).code(0).printed(&format!("{named}\n"));
        world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
    }
    world.assert_removes_all();
}
