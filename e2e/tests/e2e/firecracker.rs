//! Machines driven by Firecracker's API, all the way from the command line. In the emulated KVM host
//! (`cargo xtask kvm-host test`) that is a real Firecracker, jailed, where `MIMEO_FIRECRACKER` names one. Elsewhere the
//! process that answers is the strict fake of it, and behind that QEMU's translator runs their guests, real ones.

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

/// A world in which a Firecracker is installed, on a host of its own.
///
/// That a guest has answered is what proves KVM, and the guests of this Firecracker do.
fn world() -> Option<(World, Lan)> {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("NOT RUN: there is no /dev/kvm, so that no driver is tried that needs it");
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
    // `auto` chooses it, and with it the bridge; the second run begins as a guest that has booted.
    for (method, name) in [("cold", "first"), ("warm", "second")] {
        let cold = if method == "cold" { vec!["--cold"] } else { Vec::new() };
        let arguments = [&cold[..], &["--name", name, "-p", "8080:8000", &image, "sh", "-c"]].concat();
        let script =
            "echo $RANDOM > /x; mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";
        world.start(arguments.iter().copied().chain([script]));
        assert_eq!(inspect(&world, name, "/Driver"), "firecracker");
        assert_eq!(inspect(&world, name, "/BootMethod"), method);
        assert_eq!(inspect(&world, name, "/HostConfig/NetworkMode"), "bridged");
        until("its port answers", || TcpStream::connect("127.0.0.1:8080").ok());
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
    sh(&world, "source", "echo kept > /file; sync").ok();
    world.mimeo(["snapshot", "create", "source", "--tag", "first"]).ok();
    // The source goes on, in the same session.
    let counted =
        |name: &str| sh(&world, name, "cat /dev/shm/n").ok().text().parse::<u64>().unwrap_or_default();
    let before = counted("source");
    until("the source counts on", || (counted("source") > before).then_some(()));
    world.mimeo(["snapshot", "run", "first", "-n", "2", "--name", "copy"]).ok();
    for name in ["copy-1", "copy-2"] {
        sh(&world, name, "cat /file; echo $(hostname) > /own").ok().printed("kept\n");
        let before = counted(name);
        until("the copy counts on", || (counted(name) > before).then_some(()));
    }
    let addresses: Vec<_> =
        ["source", "copy-1", "copy-2"].map(|name| inspect(&world, name, "/NetworkSettings/IPAddress")).into();
    assert!(
        addresses.iter().all(|ip| addresses.iter().filter(|other| *other == ip).count() == 1),
        "{addresses:?}"
    );
    // Later snapshots of the source hold all that it has written since it was started, not only since the last one.
    for (tag, written, byte) in [("second-save", "one", "x"), ("third-save", "one two", r"\0")] {
        let last = written.split(' ').next_back().expect("a word");
        // These pages are zeros at first, then something else, then zeros again.
        let fill = format!(
            "head -c 1048576 /dev/zero | tr '\\0' '{byte}' | dd of=/dev/shm/fill conv=notrunc 2>/dev/null"
        );
        sh(&world, "source", &format!("{fill}; echo {last} > /dev/shm/{last}; sync")).ok();
        world.mimeo(["snapshot", "create", "source", "--tag", tag]).ok();
        world.mimeo(["snapshot", "run", tag, "--name", tag]).ok();
        let files: Vec<_> = written.split(' ').map(|word| format!("/dev/shm/{word}")).collect();
        let words = written.replace(' ', "\n") + "\n";
        sh(&world, tag, &format!("cat {}; cat /file", files.join(" "))).ok().printed(&(words + "kept\n"));
        let filled = |name: &str| sh(&world, name, "md5sum /dev/shm/fill").ok().text().to_owned();
        assert_eq!(filled(tag), filled("source"));
        let before = counted(tag);
        until("it counts on", || (counted(tag) > before).then_some(()));
        world.mimeo(["rm", "-f", tag]).ok();
    }
    // A copy's own snapshot holds what differs from the one that it came of.
    sh(&world, "copy-1", "echo more > /more; sync").ok();
    world.mimeo(["snapshot", "create", "copy-1", "--tag", "second"]).ok();
    let manifest = world.mimeo(["snapshot", "inspect", "second"]).ok().json();
    assert!(manifest[0]["parent"].is_string() || manifest["parent"].is_string(), "{manifest:#}");
    world.mimeo(["snapshot", "run", "second", "--name", "grandchild"]).ok();
    sh(&world, "grandchild", "cat /file /more").ok().printed("kept\nmore\n");
    world.mimeo(["fork", "grandchild", "-n", "2", "--name", "try"]).ok();
    for name in ["try-1", "try-2"] {
        sh(&world, name, "cat /more").ok().printed("more\n");
    }
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.wait_until_no_process();
    lan.assert_empty();
}

#[test]
fn a_page_server_ends_with_its_clones() {
    let Some((world, lan)) = world() else { return };
    let image = world.busybox();
    world.start(["--name", "source", &image, "sh", "-c", "echo kept > /dev/shm/word; exec sleep 1000"]);
    until("it has begun", || (sh(&world, "source", "cat /dev/shm/word").stdout == "kept\n").then_some(()));
    world.mimeo(["snapshot", "create", "source", "--tag", "warm"]).ok();
    let mut server = world.spawn(["snapshot", "serve", "--pager", "warm"]);
    let pid = server.id().to_string();
    until("the server can be asked", || {
        let listed = world.mimeo(["snapshot", "ls", "--json"]).ok().json();
        listed["serves"].as_array().is_some_and(|serves| !serves.is_empty()).then_some(())
    });
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "mimeo-pager").count()
    };
    for round in 0..2 {
        let (one, two) = (format!("one-{round}"), format!("two-{round}"));
        for name in [&one, &two] {
            world.mimeo(["snapshot", "run", "--pid", &pid, "--name", name]).ok();
            sh(&world, name, "cat /dev/shm/word").ok().printed("kept\n");
        }
        assert_eq!(threads(), 1, "one page server for all");
        world.mimeo(["rm", "-f", &one, &two]).ok();
        until("the page server has ended with its last copy", || (threads() == 0).then_some(()));
    }
    // Its death is the end of its copies: none goes on without its memory.
    world.mimeo(["snapshot", "run", "--pid", &pid, "--name", "last"]).ok();
    server.kill().expect("it lives");
    server.wait().expect("it ends");
    until("its copy has ended", || {
        world.mimeo(["ps", "-q", "--filter", "name=last"]).stdout.is_empty().then_some(())
    });
    world.mimeo(["rm", "-f", "-a"]).code(0);
    world.wait_until_no_process();
    lan.assert_empty();
}

/// The directory where a machine's Firecracker listens.
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
        let mut stream = UnixStream::connect(socket).expect("it listens");
        let length = body.len();
        write!(stream, "PATCH /balloon HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("asked");
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).expect("answered");
        assert!(status.contains("204"), "{status}");
    };
    let before = free_mib("box");
    set(200);
    until("its memory is taken", || (free_mib("box") < before - 150).then_some(()));
    world.mimeo(["snapshot", "create", "box", "--tag", "small"]).ok();
    world.mimeo(["snapshot", "run", "small", "--name", "copy"]).ok();
    assert!(free_mib("copy") < before - 100, "what was taken is taken in a copy, too");
    set(0);
    until("its memory is back", || (free_mib("box") > before - 50).then_some(()));
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
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it lives");
    world.wait_until_no_process();
    world.mimeo(["ps"]).code(0).stderr_contains("box: its monitor was gone: cleared away");
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
    run(&["--accel", "tcg"]).stderr_contains("on KVM alone").stderr_contains("--driver qemu");
    let serve = |tag: &str| world.mimeo(["snapshot", "serve", "--pager", tag]);
    world.start(["--driver", "qemu", "--network", "none", "--name", "box", &image, "sleep", "1000"]);
    world.mimeo(["snapshot", "create", "box", "--tag", "qemus"]).ok();
    serve("qemus").code(125).stderr_contains("qemu driver maps its copies' memory by itself");
    // One that is not there, or too old.
    let old = world.file("old", "#!/bin/sh\necho 'Firecracker v1.9.1'\n");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("executable");
    let old = old.to_str().expect("text");
    world.mimeo(["setup", "firecracker", old]).code(125).stderr_contains("1.10.0 or later is needed");
}
