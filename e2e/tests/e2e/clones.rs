//! `mimeo snapshot run`: clones of a snapshot.

use std::time::Duration;

use e2e::{Image, Layer, Outcome, User, World, as_root_and_user, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A web server whose page shows which machine answers.
const SERVE: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8000 -h /www";

/// Starts a machine `web` of 128 MiB and saves it as `saved`.
fn start_and_save(world: &World, args: &[&str]) {
    let image = world.busybox();
    let start = ["--name", "web", "-m", "128m"].iter().chain(args).copied();
    world.start(start.chain([&*image, "sh", "-c", SERVE]));
    until("the page is served", || {
        (!world.sh("web", "cat /www/index.html 2>&-; true").is_empty()).then_some(())
    });
    world.snapshot("web", "saved");
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

as_root_and_user!(clones_run_side_by_side, |world| {
    start_and_save(world, &["-p", "127.0.0.1::8000", "-e", "A=old", "-e", "B=old"]);
    let clones = world.clones(&["saved", "-n", "3", "--name", "clone", "-e", "A=new"]);
    let names: Vec<_> = clones.iter().map(|clone| text(clone, "name")).collect();
    assert_eq!(names, ["clone-1", "clone-2", "clone-3"]);
    for name in &names {
        // Each has its own name, environment, disk and network.
        assert_eq!(world.sh(name, "echo $A $B; cat /run/mimeo/env; ls /own 2>&-; true"), "new\nA=new");
        world.sh(name, &format!("echo {name} > /own; echo {name} > /www/index.html"));
    }
    for name in &names {
        assert_eq!(world.sh(name, "cat /own"), *name);
        let address = world.published(name, "8000");
        assert_eq!(world.fetch_page(&address).as_deref(), Some(&*format!("{name}\n")));
        let machine = world.inspect(name);
        assert_eq!(text(&machine, "BootMethod"), "clone");
        assert_eq!(machine["Identity"].as_array().map(Vec::len), Some(10), "{machine:#}");
    }
    assert_eq!(world.sh("web", "ls /own 2>&-; true"), "");
    let mut ports: Vec<_> = names.iter().map(|name| world.published(name, "8000")).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    // Clones are ordinary machines.
    let pid = clones[0]["pid"].to_string();
    world.mimeo(["ls", "--pid", &pid, "-q"]).ok().printed(&format!("{}\n", &text(&clones[0], "id")[..12]));
    world.mimeo(["logs", "clone-1"]).ok();
    world.mimeo(["stop", "-t", "0", "clone-1"]).ok().printed("clone-1\n");
    world.mimeo(["rm", "clone-1"]).ok();
    assert_eq!(world.sh("clone-2", "echo on"), "on");
    world.assert_removes_all();
});

#[test]
fn a_clone_has_its_own_log() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "echo first; while [ ! -e /end ]; do sleep 0.1; done; echo last in $(hostname); exit 4";
    world.start(["--name", "web", "-m", "128m", &image, "sh", "-c", shell]);
    until("the workload has started", || (world.mimeo(["logs", "web"]).stdout == "first\n").then_some(()));
    world.snapshot("web", "saved");
    let id = text(&world.clones(&["saved", "--name", "clone"])[0], "id")[..12].to_owned();
    let waiting = world.spawn(["wait", "clone"]);
    world.sh("clone", "touch /end");
    Outcome::wait_for(waiting).ok().printed("4\n");
    world.mimeo(["logs", "clone"]).ok().printed(&format!("last in {id}\n"));
    world.mimeo(["logs", "web"]).ok().printed("first\n");
    world.assert_removes_all();
}

#[test]
fn clones_publish_ports() {
    let world = World::new(User::Root);
    start_and_save(&world, &[]);
    world.clones(&["saved", "--name", "one", "-p", "127.0.0.1::8000"]);
    until("the clone serves its page", || world.fetch_page(&world.published("one", "8000")));
    let taken = world.published("one", "8000");
    world
        .mimeo(["snapshot", "run", "saved", "--name", "two", "-p", &format!("{taken}:8000")])
        .code(125)
        .stderr_contains("it is in use");
    world
        .mimeo(["snapshot", "run", "saved", "-n", "2", "-p", "8080:8000"])
        .code(125)
        .stderr_contains("several clones cannot have the same host port");
    world.mimeo(["rm", "-f", "one"]).ok();
    world.mimeo(["ps", "--format", "{{.Names}}"]).ok().printed("web\n");
    world.assert_removes_all();
}

#[test]
fn one_of_two_clones_with_a_name_is_refused() {
    let world = World::new(User::Root);
    start_and_save(&world, &[]);
    let run = || world.spawn(["snapshot", "run", "saved", "--name", "clone"]);
    let outcomes = [run(), run()].map(Outcome::wait_for);
    let mut codes = outcomes.each_ref().map(|outcome| outcome.code);
    codes.sort();
    assert_eq!(codes, [0, 125], "{outcomes:#?}");
    let refused = outcomes.into_iter().find(|outcome| outcome.code != 0).expect("one");
    refused.stderr_contains("the name \"clone\" is in use");
    assert_eq!(world.sh("clone", "echo on"), "on");
    // Of several clones only those with a name in use are refused.
    let some = world.mimeo(["snapshot", "run", "saved", "--name", "web", "-n", "2"]).ok();
    some.printed("web-1\nweb-2\n");
    let some =
        world.mimeo(["snapshot", "run", "saved", "--name", "web", "-n", "3", "--json"]).code(125).json();
    let error = |n: usize| some[n]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error(0).contains("web-1") && error(1).contains("web-2") && error(2).is_empty(), "{some:#}");
    assert_eq!(text(&some[2], "name"), "web-3");
    world.assert_removes_all();
}

#[test]
fn clones_outlive_their_snapshot() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh(
        "web",
        "head -c 9000000 /dev/urandom > /file; sync; cp /file /dev/shm/file; md5sum < /file > /sum",
    );
    world.snapshot("web", "saved");
    world.clones(&["saved", "-n", "2", "--name", "clone"]);
    world.mimeo(["snapshot", "rm", "saved"]).ok();
    world.mimeo(["rm", "-f", "web"]).ok();
    world.mimeo(["snapshot", "run", "saved"]).code(125).stderr_contains("no snapshot");
    for clone in ["clone-1", "clone-2"] {
        world.sh(clone, "md5sum < /file | cmp - /sum; md5sum < /dev/shm/file | cmp - /sum");
        assert_eq!(world.sh(clone, "head -c 9000000 /dev/zero > /more; sync; wc -c < /more"), "9000000");
    }
    // Their parent snapshot is gone, so they cannot be saved as a diff.
    for act in [&["snapshot", "create"][..], &["fork"]] {
        world.mimeo(act.iter().chain(&["clone-1"])).code(125).stderr_contains("which was removed");
        world.sh("clone-1", "md5sum < /file | cmp - /sum");
    }
    world.assert_removes_all();
}

#[test]
fn a_clone_corrects_a_wrong_clock() {
    let world = World::new(User::Root);
    start_and_save(&world, &[]);
    let seconds = |machine: &str| world.sh(machine, "date +%s").parse::<i64>().expect("seconds");
    let host = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.expect("after 1970").as_secs() as i64
    };
    // Setting the clock is no default capability.
    world.mimeo(["exec", "--privileged", "web", "date", "-s", "2001-01-01 00:00:00"]).ok();
    world.snapshot("web", "late");
    world.clones(&["late", "--name", "clone"]);
    assert!((seconds("clone") - host()).abs() <= 1, "{} {}", seconds("clone"), host());
    // The source keeps its wrong clock.
    assert!(seconds("web") < 1_000_000_000);
    world.assert_removes_all();
}

#[test]
fn a_clone_killed_during_its_start_leaves_nothing() {
    let world = World::new(User::Root);
    start_and_save(&world, &[]);
    let sources = world.supervisors();
    for millis in [0, 10, 30, 60] {
        let run = world.spawn(["snapshot", "run", "saved", "-n", "3", "--name", "clone"]);
        let one = until("a clone is being started", || {
            world.supervisors().into_iter().find(|pid| !sources.contains(pid))
        });
        std::thread::sleep(Duration::from_millis(millis));
        kill_process(Pid::from_raw(one).expect("a process id"), Signal::KILL).ok();
        let outcome = Outcome::wait_for(run);
        let details = format!("{outcome:#?}");
        // The clone may have been ready already.
        if outcome.code != 0 {
            assert_eq!(outcome.stdout.lines().count(), 2, "{outcome:#?}");
            outcome.code(125).stderr_contains("it was killed");
        }
        let running = world.mimeo(["ps", "-q"]).stdout.lines().count();
        assert_eq!(running, 3, "after {millis} ms: {details}");
        for clone in ["clone-1", "clone-2", "clone-3"] {
            world.mimeo(["rm", "-f", clone]);
        }
        assert_eq!(world.supervisors(), sources, "after {millis} ms");
    }
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.assert_removes_all();
}

#[test]
fn clones_beyond_the_memory_limit_are_refused() {
    let world = World::new(User::Root);
    start_and_save(&world, &[]);
    let stats = world.mimeo(["stats", "--no-stream", "--json"]).ok().json();
    let taken = stats[0]["host_pss_bytes"].as_u64().expect("bytes") >> 20;
    let mut command = world.command(["snapshot", "run", "saved", "-n", "100", "--name", "clone", "--json"]);
    // Enough memory for sixty and a half clones.
    command.env("MIMEO_MEMORY", format!("{}m", taken.max(40) + 60 * 40 + 20));
    let clones = world.finish(command).code(125).json();
    let (started, refused): (Vec<_>, Vec<_>) =
        clones.as_array().expect("a list").iter().partition(|clone| clone["error"].is_null());
    assert!((59..=61).contains(&started.len()) && started.len() + refused.len() == 100, "{clones:#}");
    for (n, clone) in refused.iter().enumerate() {
        let name = format!("clone-{}", started.len() + n + 1);
        let error = text(clone, "error");
        assert!(error.contains(&name) && error.contains("insufficient memory"), "{error}");
    }
    for clone in started {
        assert_eq!(world.sh(text(clone, "name"), "echo on"), "on");
    }
    world.assert_removes_all();
}

/// Starts a machine from the busybox image with one more layer, and saves it as `saved`.
fn start_and_save_with(world: &World, layer: Layer) {
    let image = world.image(&Image::busybox("own").layer(layer));
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.snapshot("web", "saved");
}

#[track_caller]
fn assert_refused(world: &World, step: &str, reason: &str) {
    let outcome = world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).code(125).printed("");
    outcome.stderr_contains(step).stderr_contains(reason);
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).ok().printed("web\n");
    world
        .mimeo(["fork", "web", "-n", "2"])
        .code(125)
        .printed("")
        .stderr_contains(step)
        .stderr_contains(reason);
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).ok().printed("web\n");
    assert_eq!(world.sh("web", "echo on"), "on");
    world.assert_removes_all();
}

#[test]
fn a_failing_hook_fails_its_clone() {
    let world = World::new(User::Root);
    let hook = "#!/bin/sh\necho no luck >&2\nexit 3\n";
    start_and_save_with(&world, Layer::default().file("etc/mimeo/clone.d/10-hook", 0o755, hook));
    assert_refused(&world, "hooks", "10-hook");
}

#[test]
fn a_failing_key_generation_fails_its_clone() {
    let world = World::new(User::Root);
    let layer = Layer::default().file("etc/ssh/ssh_host_ed25519_key", 0o600, "a key").file(
        "bin/ssh-keygen",
        0o755,
        "#!/bin/sh\necho no randomness >&2\nexit 1\n",
    );
    start_and_save_with(&world, layer);
    assert_refused(&world, "ssh_keys", "no randomness");
}

#[test]
fn a_hook_runs_before_the_workload_resumes() {
    let world = World::new(User::Root);
    let hook =
        "#!/bin/sh\necho $MIMEO_GENERATION $(cat /run/mimeo/generation) $(hostname) > /hooked\nsleep 0.3\n";
    let layer = Layer::default().file("etc/mimeo/clone.d/10-hook", 0o755, hook);
    let image = world.image(&Image::busybox("own").layer(layer));
    let shell = "g=$(cat /run/mimeo/generation); while [ \"$(cat /run/mimeo/generation)\" = $g ]; do :; done; \
                 cat /hooked; exec sleep 1000";
    world.start(["--name", "web", "-m", "128m", &image, "sh", "-c", shell]);
    std::thread::sleep(Duration::from_millis(300));
    world.snapshot("web", "saved");
    let clone = world.clones(&["saved", "--name", "clone"]).remove(0);
    let logged = until("the workload has resumed", || {
        Some(world.mimeo(["logs", "clone"]).stdout).filter(|log| !log.is_empty())
    });
    let (generation, host) = (text(&clone, "vm_generation"), &text(&clone, "id")[..12]);
    assert_eq!(logged, format!("{generation} {generation} {host}\n"));
    assert_eq!(world.mimeo(["logs", "web"]).ok().stdout, "");
    world.assert_removes_all();
}
