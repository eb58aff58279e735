//! Machines on the Firecracker driver, from the command line down. In the emulated KVM host (`cargo xtask kvm-host test`)
//! they run on a real, jailed Firecracker if `MIMEO_FIRECRACKER` names one. Elsewhere the strict fake answers the API
//! calls and runs real guests on QEMU with TCG.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use e2e::{Lan, Outcome, User, World, built_program, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A world with Firecracker, on a simulated host.
///
/// mimeo accepts KVM because the guests of this Firecracker answer.
fn world() -> Option<(World, Lan)> {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("NOT RUN: there is no /dev/kvm, which mimeo requires for this driver");
        return None;
    }
    let world = match std::env::var_os("MIMEO_E2E_FIRECRACKER") {
        Some(program) => World::cold(User::Root).with_variable("MIMEO_FIRECRACKER", program),
        None => World::cold(User::Root)
            .with_variable("MIMEO_FIRECRACKER", built_program("emulating-firecracker"))
            .with_variable("MIMEO_JAILER", "off"),
    };
    let lan = Lan::new();
    Some((world, lan))
}

fn inspect(world: &World, name: &str, pointer: &str) -> String {
    let document: Value = serde_json::from_str(world.mimeo(["inspect", name]).ok().text()).expect("JSON");
    let found = document[0].pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {document:#}"));
    found.as_str().map_or_else(|| found.to_string(), str::to_owned)
}

fn sh(world: &World, name: &str, script: &str) -> Outcome {
    world.mimeo(["exec", name, "sh", "-c", script])
}

#[test]
fn a_machine_runs_cold_and_warm() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    // `auto` selects Firecracker and the bridged network; the second run is restored from the boot snapshot.
    for (method, name) in [("cold", "first"), ("warm", "second")] {
        let cold = if method == "cold" { vec!["--cold"] } else { Vec::new() };
        let arguments = [&cold[..], &["--name", name, "-p", "8080:8000", &image, "sh", "-c"]].concat();
        let script =
            "echo $RANDOM > /x; mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";
        world.start(arguments.iter().copied().chain([script]));
        assert_eq!(inspect(&world, name, "/Driver"), "firecracker");
        assert_eq!(inspect(&world, name, "/BootMethod"), method);
        assert_eq!(inspect(&world, name, "/HostConfig/NetworkMode"), "bridged");
        until("the port accepts connections", || TcpStream::connect("127.0.0.1:8080").ok());
        sh(&world, name, "cat /www/index.html; exit 3").code(3).printed("page\n");
        assert_eq!(sh(&world, name, "echo lost >&2; head -c 300000 /dev/zero").stdout.len(), 300_000);
        world.mimeo(["stop", name]).ok();
        world.mimeo(["rm", name]).ok();
    }
    world.mimeo(["run", "--rm", &image, "sh", "-c", "exit 7"]).code(7);
    world.assert_empty();
    lan.assert_empty();
}

#[test]
fn snapshots_clones_and_forks_work() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    let count = "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.01; done";
    world.start(["--name", "source", &image, "sh", "-c", count]);
    sh(&world, "source", "echo saved > /file; sync").ok();
    world.mimeo(["snapshot", "create", "source", "--tag", "first"]).ok();
    // The source continues in the same session.
    let counted =
        |name: &str| sh(&world, name, "cat /dev/shm/n").ok().text().parse::<u64>().unwrap_or_default();
    let before = counted("source");
    until("the source counts on", || (counted("source") > before).then_some(()));
    world.mimeo(["snapshot", "run", "first", "-n", "2", "--name", "clone"]).ok();
    for name in ["clone-1", "clone-2"] {
        sh(&world, name, "cat /file; echo $(hostname) > /own").ok().printed("saved\n");
        let before = counted(name);
        until("the clone counts on", || (counted(name) > before).then_some(()));
    }
    let addresses: Vec<_> = ["source", "clone-1", "clone-2"]
        .map(|name| inspect(&world, name, "/NetworkSettings/IPAddress"))
        .into();
    assert!(
        addresses.iter().all(|ip| addresses.iter().filter(|other| *other == ip).count() == 1),
        "{addresses:?}"
    );
    // Later snapshots hold everything that the source has written since its start, not only since the previous snapshot.
    for (tag, written, byte) in [("second-save", "one", "x"), ("third-save", "one two", r"\0")] {
        let last = written.split(' ').next_back().expect("a word");
        // These pages hold zeros at first, then other bytes, then zeros again.
        let fill = format!(
            "head -c 1048576 /dev/zero | tr '\\0' '{byte}' | dd of=/dev/shm/fill conv=notrunc 2>/dev/null"
        );
        sh(&world, "source", &format!("{fill}; echo {last} > /dev/shm/{last}; sync")).ok();
        world.mimeo(["snapshot", "create", "source", "--tag", tag]).ok();
        world.mimeo(["snapshot", "run", tag, "--name", tag]).ok();
        let files: Vec<_> = written.split(' ').map(|word| format!("/dev/shm/{word}")).collect();
        let words = written.replace(' ', "\n") + "\n";
        sh(&world, tag, &format!("cat {}; cat /file", files.join(" "))).ok().printed(&(words + "saved\n"));
        let filled = |name: &str| sh(&world, name, "md5sum /dev/shm/fill").ok().text().to_owned();
        assert_eq!(filled(tag), filled("source"));
        let before = counted(tag);
        until("the clone counts on", || (counted(tag) > before).then_some(()));
        world.mimeo(["rm", "-f", tag]).ok();
    }
    // A snapshot of a clone holds its difference to the snapshot that it was started from.
    sh(&world, "clone-1", "echo more > /more; sync").ok();
    world.mimeo(["snapshot", "create", "clone-1", "--tag", "second"]).ok();
    let manifest = world.mimeo(["snapshot", "inspect", "second"]).ok().json();
    assert!(manifest[0]["parent"].is_string() || manifest["parent"].is_string(), "{manifest:#}");
    world.mimeo(["snapshot", "run", "second", "--name", "third"]).ok();
    sh(&world, "third", "cat /file /more").ok().printed("saved\nmore\n");
    world.mimeo(["fork", "third", "-n", "2", "--name", "try"]).ok();
    for name in ["try-1", "try-2"] {
        sh(&world, name, "cat /more").ok().printed("more\n");
    }
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.wait_until_no_process();
    lan.assert_empty();
}

#[test]
fn volumes_are_copied_for_clones() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    world.start(["--name", "source", "-v", "data:/data", &image, "sleep", "1000"]);
    sh(&world, "source", "echo saved > /data/file; sync").ok();
    world.mimeo(["snapshot", "create", "source", "--tag", "saved"]).ok();
    sh(&world, "source", "echo later > /data/file").ok();
    for name in ["one", "two"] {
        world.mimeo(["snapshot", "run", "saved", "--name", name]).ok();
        sh(&world, name, &format!("cat /data/file; echo {name} > /data/file")).ok().printed("saved\n");
    }
    sh(&world, "one", "cat /data/file").ok().printed("one\n");
    sh(&world, "source", "cat /data/file").ok().printed("later\n");
    world.mimeo(["rm", "-f", "-a"]).ok();
    // The volume has an owner of its own again after each jail.
    world.mimeo(["run", "--rm", "-v", "data:/data", &image, "cat", "/data/file"]).ok().printed("later\n");
    world.start(["--name", "layers", "--driver", "qemu", "-v", "data:/data", &image, "sleep", "1000"]);
    world.mimeo(["snapshot", "create", "layers", "--tag", "on-qemu"]).ok();
    world.mimeo(["rm", "-f", "layers"]).ok();
    let refused = world.mimeo(["run", "--rm", "-v", "data:/data", &image, "true"]).code(125);
    refused.stderr_contains("volume data has layers").stderr_contains("--driver qemu");
    world.wait_until_no_process();
    lan.assert_empty();
}

#[test]
fn a_page_server_ends_with_its_clones() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    world.start(["--name", "source", &image, "sh", "-c", "echo saved > /dev/shm/word; exec sleep 1000"]);
    until("the workload has started", || {
        (sh(&world, "source", "cat /dev/shm/word").stdout == "saved\n").then_some(())
    });
    world.mimeo(["snapshot", "create", "source", "--tag", "warm"]).ok();
    let mut server = world.spawn(["snapshot", "serve", "--pager", "warm"]);
    let pid = server.id().to_string();
    until("the server is listed", || {
        let listed = world.mimeo(["snapshot", "ls", "--json"]).ok().json();
        listed["serves"].as_array().is_some_and(|serves| !serves.is_empty()).then_some(())
    });
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs").flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "mimeo-pager").count()
    };
    for round in 0..2 {
        let (one, two) = (format!("one-{round}"), format!("two-{round}"));
        for name in [&one, &two] {
            world.mimeo(["snapshot", "run", "--pid", &pid, "--name", name]).ok();
            sh(&world, name, "cat /dev/shm/word").ok().printed("saved\n");
        }
        assert_eq!(threads(), 1, "all clones share one page server");
        world.mimeo(["rm", "-f", &one, &two]).ok();
        until("the page server ends with its last clone", || (threads() == 0).then_some(()));
    }
    // Clones end with the server, because it serves their memory.
    world.mimeo(["snapshot", "run", "--pid", &pid, "--name", "last"]).ok();
    server.kill().expect("the server runs");
    server.wait().expect("the server ends");
    until("the clone has ended", || {
        world.mimeo(["ps", "-q", "--filter", "name=last"]).stdout.is_empty().then_some(())
    });
    world.mimeo(["rm", "-f", "-a"]).code(0);
    world.wait_until_no_process();
    lan.assert_empty();
}

/// The directory with the API socket of a machine's Firecracker.
fn jail(world: &World, name: &str) -> PathBuf {
    let machine = world.home().join("machines").join(&inspect(world, name, "/Id")[..12]);
    let mut dirs = vec![machine];
    while let Some(dir) = dirs.pop() {
        if dir.join("vmm.sock").exists() {
            return dir;
        }
        let inner = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        dirs.extend(inner.filter(|path| path.is_dir()));
    }
    panic!("{name} has no vmm.sock");
}

#[test]
fn a_balloon_inflates_and_deflates() {
    if std::env::var_os("MIMEO_E2E_FIRECRACKER").is_none() {
        eprintln!(
            "NOT RUN: MIMEO_E2E_FIRECRACKER names no real Firecracker, and the fake's guests have no balloon"
        );
        return;
    }
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    world.start(["--name", "box", &image, "sleep", "1000"]);
    let free_mib = |name: &str| {
        let text = sh(&world, name, "awk '/^MemFree/ { print int($2 / 1024) }' /proc/meminfo")
            .ok()
            .text()
            .to_owned();
        text.trim().parse::<i64>().expect("a number")
    };
    let jail = File::open(jail(&world, "box")).expect("a directory");
    let set = |mib: u32| {
        let body = format!("{{\"amount_mib\":{mib}}}");
        let socket = format!("/proc/self/fd/{}/vmm.sock", jail.as_raw_fd());
        let mut stream = UnixStream::connect(socket).expect("Firecracker listens");
        let length = body.len();
        write!(stream, "PATCH /balloon HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).expect("answered");
        assert!(status.contains("204"), "{status}");
    };
    let before = free_mib("box");
    set(200);
    until("the balloon has inflated", || (free_mib("box") < before - 150).then_some(()));
    world.mimeo(["snapshot", "create", "box", "--tag", "small"]).ok();
    world.mimeo(["snapshot", "run", "small", "--name", "clone"]).ok();
    assert!(free_mib("clone") < before - 100, "the balloon stays inflated in a clone");
    set(0);
    until("the balloon has deflated", || (free_mib("box") > before - 50).then_some(()));
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.wait_until_no_process();
    lan.assert_empty();
}

#[test]
fn a_killed_supervisor_takes_its_machine_along() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    world.start(["--name", "box", &image, "sleep", "1000"]);
    let pid: i32 = inspect(&world, "box", "/State/Pid").parse().expect("a pid");
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("the supervisor runs");
    world.wait_until_no_process();
    world.mimeo(["ps"]).code(0).stderr_contains("box: the supervisor died: removed what it left behind");
    world.mimeo(["rm", "box"]).ok();
    world.assert_empty();
    lan.assert_empty();
}

#[test]
fn unsupported_options_are_refused_with_an_alternative() {
    let Some((world, _lan)) = world() else { return };
    let image = world.busybox();
    let run = |arguments: &[&str]| {
        world
            .mimeo([&["run", "--rm", "--driver", "firecracker"], arguments, &[&image, "true"]].concat())
            .code(125)
    };
    run(&["--network", "rootless"])
        .stderr_contains("no network of its own")
        .stderr_contains("--network bridged");
    run(&["--accel", "tcg"]).stderr_contains("needs KVM").stderr_contains("--driver qemu");
    let serve = |tag: &str| world.mimeo(["snapshot", "serve", "--pager", tag]);
    world.start(["--driver", "qemu", "--network", "none", "--name", "box", &image, "sleep", "1000"]);
    world.mimeo(["snapshot", "create", "box", "--tag", "of-qemu"]).ok();
    serve("of-qemu").code(125).stderr_contains("qemu driver maps its clones' memory itself");
    // A Firecracker that is too old.
    let old = world.file("old", "#!/bin/sh\necho 'Firecracker v1.9.1'\n");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("executable");
    let old = old.to_str().expect("text");
    world.mimeo(["setup", "firecracker", old]).code(125).stderr_contains("1.10.0 or later is needed");
}
