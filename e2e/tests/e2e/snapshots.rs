//! `mimeo snapshot create`, `ls`, `inspect`, `rm`, `prune`: a machine is kept
//! as it is at one moment, and goes on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{Outcome, Poller, User, World, as_root_and_user, flip_byte, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SERVE: &str = "mkdir /www; echo page > /www/index.html; httpd -p 8000 -h /www; \
                     exec nc -ll -p 7 -e cat";
/// Counts in memory and on the disk, and notices when the two differ.
const COUNT: &str = "n=0; echo 0 > /count; while :; do [ \"$(cat /count)\" = $n ] || echo $n >> /differed; \
                     n=$((n+1)); echo $n > /count; sleep 0.01; done";

fn kill(pid: i64) {
    kill_process(Pid::from_raw(pid as i32).expect("a process id"), Signal::KILL).expect("it lives");
}

fn pid(world: &World, machine: &str) -> i64 {
    world.inspect(machine)["State"]["Pid"].as_i64().expect("a process id")
}

fn serve(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-p", "127.0.0.1::8000", "-p", "127.0.0.1::7", &image, "sh", "-c", SERVE]);
    until("the page comes", || world.fetch_page(&world.published("web", "8000")));
}

as_root_and_user!(snapshots_are_listed_inspected_and_removed, |world| {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    let id = world.mimeo(["snapshot", "create", "web"]).ok().text().to_owned();
    assert_eq!(id.len(), 64);
    let pid = pid(world, "web").to_string();
    world.mimeo(["snapshot", "create", "--pid", &pid, "-t", "kept"]).ok();
    world
        .mimeo(["snapshot", "create", "web", "-t", "kept"])
        .code(125)
        .stderr_contains("the tag \"kept\" is in use");
    let table = world.mimeo(["snapshot", "ls"]).ok();
    let lines: Vec<_> = table.stdout.lines().collect();
    let headings: Vec<_> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(headings, ["SNAPSHOT ID", "TAG", "KIND", "OF", "CREATED", "MEMORY", "CLONES"], "{table:#?}");
    assert!(lines.len() == 3 && lines[1].starts_with(&id[..12]) && lines[2].contains("kept"), "{table:#?}");
    let shown = world.mimeo(["snapshot", "inspect", "kept", &id[..6]]).ok().json();
    for (pointer, expected) in [
        ("/0/tag", json!("kept")),
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
    world.mimeo(["snapshot", "rm", "nobody", "kept"]).code(125).stderr_contains("nobody").printed("kept\n");
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
    let saved = world.snapshot("web", "kept");
    world.mimeo(["snapshot", "create", "web"]).ok();
    std::thread::sleep(Duration::from_millis(500));
    for took in [pages.stop(), lines.stop()] {
        assert!(took.len() > 20, "{took:?}");
        let longest = took.iter().max().expect("some");
        assert!(*longest < Duration::from_secs(2), "{longest:?} without an answer: {saved}");
    }
    assert!(saved["pause_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 2000.0), "{saved}");
    world.assert_removes_all();
}

#[test]
fn memory_and_disk_are_consistent() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "96m", &image, "sh", "-c", COUNT]);
    // More than the guest can hold in memory.
    world.sh("web", "yes before | head -c 60000000 > /big; sync; echo before > /file");
    let sum = world.sh("web", "md5sum < /big");
    world.snapshot("web", "kept");
    world.sh(
        "web",
        "echo after > /file; echo new > /new; yes after | head -c 1000000 | dd of=/big conv=notrunc 2>&-",
    );
    world.clones(&["kept", "--name", "copy"]);
    let found = world.sh("copy", "cat /file; ls /new 2>&1; md5sum < /big");
    assert_eq!(found, format!("before\nls: /new: No such file or directory\n{sum}"));
    let count = || world.sh("copy", "cat /count").parse::<u64>().unwrap_or_default();
    let before = count();
    until("it counts on", || (count() > before).then_some(()));
    for name in ["copy", "web"] {
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
    world.mimeo(["snapshot", "create", "shared"]).code(125).stderr_contains("it has volumes");
    assert_eq!(world.sh("shared", "echo on"), "on");
    world.start(["--name", "still", &image, "sleep", "1000"]);
    world.mimeo(["pause", "still"]).ok();
    world.mimeo(["snapshot", "create", "still"]).code(125).stderr_contains("it is paused");
    world.mimeo(["unpause", "still"]).ok();
    assert_eq!(world.sh("still", "echo on"), "on");
    world.mimeo(["stop", "-t", "0", "still"]).ok();
    world.mimeo(["snapshot", "create", "still"]).code(125).stderr_contains("not running");
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
    world.clones(&["first", "--name", "copy"]);
    world.sh("copy", "echo two >> /file");
    let second = world.snapshot("copy", "second");
    let bytes = |saved: &Value| saved["memory_bytes"].as_u64().expect("bytes");
    assert!(bytes(&second) < bytes(&first) / 2, "{first} {second}");
    let parent = world.mimeo(["snapshot", "inspect", "second"]).ok().json()[0]["parent"].clone();
    assert_eq!(parent, first["id"]);
    world
        .mimeo(["snapshot", "rm", "first"])
        .code(125)
        .stderr_contains("cannot be removed before")
        .stderr_contains("snapshot second");
    world.mimeo(["rm", "-f", "copy", "web"]).ok();
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
        let monitor = pid(&world, "web");
        let saving = world.spawn(["snapshot", "create", "web", "-t", "kept"]);
        until("it is being kept", || draft().filter(|draft| draft.join(file).exists()));
        kill(monitor);
        let saved = Outcome::wait_for(saving);
        assert_ne!(saved.code, 0, "{file}: {saved:#?}");
        // Threads of a process that was killed may hold its lock for a moment.
        until("nothing is left to be swept", || {
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
    // A guest that has something to write would find the disk full first.
    world.sh("web", "sync");
    let filler = world.home().join("filler");
    for room in [60_000, 1_000_000, 20_000_000] {
        fill(&world.home(), &filler, room);
        world.mimeo(["snapshot", "create", "web", "-t", "kept"]).code(125).stderr_contains("No space left");
        assert_eq!(world.sh("web", "echo on"), "on", "{room}");
        world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
        fs::remove_file(&filler).expect("removed");
    }
    assert_eq!(world.sh("web", "echo written > /file; sync; cat /file"), "written");
    world.snapshot("web", "kept");
    world.assert_removes_all();
}

/// Writes a file that leaves so many bytes.
fn fill(dir: &Path, filler: &Path, room: u64) {
    let free = rustix::fs::statvfs(dir).expect("a filesystem");
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(room);
    fs::write(filler, vec![1; bytes as usize]).expect("there is room");
}

#[test]
fn any_flipped_byte_is_found_before_a_restore() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh("web", "echo one > /file; sync");
    world.snapshot("web", "kept");
    world.mimeo(["rm", "-f", "web"]).ok();
    let dir = world.snapshot_dir("kept");
    let parent = world.mimeo(["snapshot", "inspect", "kept"]).ok().json()[0]["parent"].clone();
    let parent = world.home().join("snapshots").join(&parent.as_str().expect("a runtime snapshot")[..12]);
    let mut files: Vec<_> = [&dir, &parent]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).expect("readable").flatten().map(|entry| entry.path()))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    // QEMU would leave a mark.
    let mark = world.files().join("started");
    world.file("bin/qemu-system-x86_64", format!("#!/bin/sh\ntouch {}\n", mark.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.files().join("bin/qemu-system-x86_64"), mode).expect("permissions");
    for file in files {
        let before = file.with_extension("before");
        fs::hard_link(&file, &before).expect("linked");
        flip_byte(&file);
        let mut command = world.command(["snapshot", "run", "kept"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", world.files().join("bin").display()));
        // The sum of a manifest is told as the manifest that it belongs to.
        let named = file.display().to_string().replace("manifest.blake3", "manifest.json");
        world.finish(command).code(125).stderr_contains(&named);
        assert!(!mark.exists(), "QEMU was started on {}", file.display());
        fs::rename(before, &file).expect("restored");
        world.mimeo(["ps", "-aq"]).ok().printed("");
    }
    world.clones(&["kept", "--name", "copy"]);
    assert_eq!(world.sh("copy", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_damaged_snapshot_can_be_removed() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    for word in ["tag", "id"] {
        let saved = world.snapshot("web", "kept");
        flip_byte(&world.snapshot_dir("kept").join("manifest.json"));
        world.mimeo(["snapshot", "inspect", "kept"]).code(125).stderr_contains("manifest.json is damaged");
        let named = if word == "tag" { "kept" } else { saved["id"].as_str().expect("an id") };
        world.mimeo(["snapshot", "rm", named]).code(0).printed(&format!("{named}\n"));
        world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
    }
    world.assert_removes_all();
}
