//! `mimeo fork`: clones of a running machine, all or none.

use std::time::Duration;

use e2e::{Outcome, Poller, User, World, as_root_and_user, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SERVE: &str = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";

/// Starts a machine `web` of 128 MiB with data in its memory and on its disk.
fn start_source(world: &World) {
    let image = world.busybox();
    let args = ["--name", "web", "-m", "128m", "-p", "127.0.0.1::8000"];
    world.start(args.iter().chain(&[&*image, "sh", "-c", SERVE]));
    until("the page is served", || world.fetch_page(&world.published("web", "8000")));
    world.sh("web", "echo saved > /file; echo saved > /dev/shm/memory");
}

#[track_caller]
fn fork(world: &World, args: &[&str]) -> Value {
    world.mimeo(["fork", "--json"].iter().chain(args)).ok().json()
}

fn names(forked: &Value) -> Vec<&str> {
    let clones = forked["clones"].as_array().expect("a list").iter();
    clones.map(|clone| clone["name"].as_str().unwrap_or_else(|| panic!("no name in {clone}"))).collect()
}

/// Asserts that no clone was made and that the source still runs.
#[track_caller]
fn assert_no_clones(world: &World, others: &str) {
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).code(0).printed(&format!("{others}web\n"));
    assert_eq!(world.snapshot_ids(), [""; 0]);
    assert_eq!(world.sh("web", "cat /file"), "saved");
    let decisions = std::fs::read_dir(world.home().join("forks")).expect("readable").flatten();
    assert_eq!(
        decisions.filter(|file| file.path().extension().is_some_and(|kind| kind == "json")).count(),
        0
    );
}

as_root_and_user!(clones_have_the_memory_and_disk_of_their_source, |world| {
    start_source(world);
    let poller = Poller::pages(&world.published("web", "8000"));
    let forked = fork(world, &["web", "-n", "3", "--name", "try"]);
    assert_eq!(names(&forked), ["try-1", "try-2", "try-3"]);
    assert!(forked["pause_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 2000.0), "{forked:#}");
    assert_eq!(forked["repeated"], false);
    for name in names(&forked) {
        assert_eq!(world.sh(name, "cat /file /dev/shm/memory"), "saved\nsaved");
        assert_eq!(world.fetch_page(&world.published(name, "8000")).as_deref(), Some("page\n"));
        world.sh(name, "echo own > /file; echo own > /www/index.html");
    }
    assert_eq!(world.sh("web", "cat /file"), "saved");
    let longest = poller.stop().into_iter().max().expect("some");
    assert!(longest < Duration::from_secs(3), "{longest:?} without a response: {forked:#}");
    // A single clone without a name gets a generated one of two words.
    let one = fork(world, &["web"]);
    assert!(names(&one).len() == 1 && names(&one)[0].contains('_'), "{one:#}");
    let all = world.mimeo(["snapshot", "ls", "--all"]).ok().stdout;
    assert_eq!(all.lines().filter(|line| line.contains("fork")).count(), 2, "{all}");
    world.mimeo(["snapshot", "ls", "-q"]).ok().printed("");
    world.assert_removes_all();
});

#[test]
fn one_refused_clone_fails_the_fork() {
    let world = World::new(User::Root);
    start_source(&world);
    let image = world.busybox();
    world.mimeo(["run", "--name", "try-2", &image, "true"]).ok();
    let refused = world.mimeo(["fork", "web", "-n", "3", "--name", "try"]).code(125).printed("");
    refused.stderr_contains("no clone was started, because try-2 failed").stderr_contains("is in use");
    assert_no_clones(&world, "try-2\n");
    world.mimeo(["rm", "try-2"]).ok();
    assert_eq!(names(&fork(&world, &["web", "-n", "3", "--name", "try"])).len(), 3);
    world.mimeo(["fork", "nobody"]).code(125).stderr_contains("no such container");
    world.assert_removes_all();
}

#[test]
fn an_unpublishable_port_fails_the_fork() {
    let world = World::new(User::Root);
    start_source(&world);
    let taken = world.published("web", "8000");
    let port = format!("{taken}:80");
    let refused = world.mimeo(["fork", "web", "-p", &port, "--name", "try", "--key", "once"]).code(125);
    refused.printed("").stderr_contains("no clone was started").stderr_contains("is in use");
    assert_no_clones(&world, "");
    // A failed fork does not use up its key.
    assert_eq!(names(&fork(&world, &["web", "--name", "try", "--key", "once"])), ["try"]);
    world.mimeo(["rm", "-f", "try"]).ok();
    forget_keys(&world);
    world.assert_removes_all();
}

#[test]
fn insufficient_memory_fails_the_fork() {
    let world = World::new(User::Root);
    start_source(&world);
    let mut command = world.command(["fork", "web", "-n", "9", "--name", "try"]);
    command.env("MIMEO_MEMORY", "300m");
    world
        .finish(command)
        .code(125)
        .stderr_contains("no clone was started, because try-")
        .stderr_contains("insufficient memory");
    assert_no_clones(&world, "");
    world.assert_removes_all();
}

#[test]
fn a_key_runs_its_fork_once() {
    let world = World::new(User::Root);
    start_source(&world);
    let first = fork(&world, &["web", "-n", "2", "--key", "step-7"]);
    let again = fork(&world, &["web", "-n", "2", "--key", "step-7"]);
    assert_eq!((names(&first), &first["snapshot"]), (names(&again), &again["snapshot"]));
    assert_eq!((&first["repeated"], &again["repeated"]), (&false.into(), &true.into()));
    let other = world.mimeo(["fork", "web", "-n", "3", "--key", "step-7"]).code(125);
    other.stderr_contains("the key \"step-7\" belongs to a fork with other clones");
    let children = [(); 2].map(|()| world.spawn(["fork", "web", "--json", "-n", "2", "--key", "step-8"]));
    let [one, other] = children.map(|child| Outcome::wait_for(child).ok().json());
    assert_eq!(names(&one), names(&other));
    assert_ne!(names(&one), names(&first));
    let clone = names(&first)[0];
    world
        .mimeo(["fork", clone, "--key", "step-7"])
        .code(125)
        .stderr_contains("the key \"step-7\" belongs to a fork");
    assert_eq!(world.mimeo(["ps", "-q"]).ok().stdout.lines().count(), 5);
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.mimeo(["snapshot", "prune"]).ok();
    forget_keys(&world);
    world.assert_removes_all();
}

/// Makes mimeo forget the keys, which it does a day after their clones have ended.
fn forget_keys(world: &World) {
    let forks = world.home().join("forks");
    let records = std::fs::read_dir(&forks).expect("readable").flatten().map(|entry| entry.path());
    for path in records {
        let file = std::fs::File::options().write(true).open(path).expect("open");
        let day_before = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
        file.set_modified(day_before).expect("changed");
    }
    world.mimeo(["ps"]).ok();
}

#[test]
fn nested_forks_keep_their_parents() {
    let world = World::new(User::Root);
    start_source(&world);
    fork(&world, &["web", "--name", "fork"]);
    world.sh("fork", "echo fork >> /file; echo fork >> /dev/shm/memory");
    world.snapshot("fork", "saved");
    world.clones(&["saved", "--name", "clone"]);
    world.sh("clone", "echo clone >> /file; echo clone >> /dev/shm/memory");
    fork(&world, &["clone", "-n", "2", "--name", "last"]);
    for last in ["last-1", "last-2"] {
        assert_eq!(world.sh(last, "cat /file /dev/shm/memory"), "saved\nfork\nclone\nsaved\nfork\nclone");
    }
    let all = world.mimeo(["snapshot", "ls", "--all", "--json"]).ok().json();
    let all = all["snapshots"].as_array().expect("a list");
    let forks: Vec<_> = all.iter().filter(|one| one["kind"] == "fork").collect();
    assert_eq!(forks.len(), 2, "{all:#?}");
    world.mimeo(["rm", "-f", "web", "fork", "clone"]).ok();
    for parent in ["saved", forks[0]["id"].as_str().expect("an id")] {
        world.mimeo(["snapshot", "rm", parent]).code(125).stderr_contains("which is in use by");
    }
    world.mimeo(["snapshot", "prune", "--all"]).ok();
    assert_eq!(world.sh("last-1", "cat /file"), "saved\nfork\nclone");
    world.snapshot("last-1", "again");
    world.clones(&["again", "--name", "latest"]);
    assert_eq!(world.sh("latest", "tail -n 1 /dev/shm/memory"), "clone");
    world.assert_removes_all();
}

#[test]
fn a_clone_killed_early_fails_the_fork() {
    let world = World::new(User::Root);
    start_source(&world);
    let sources = world.supervisors();
    for millis in [0, 15, 40] {
        let forking = world.spawn(["fork", "web", "-n", "3", "--name", "try"]);
        let clone = until("a clone is being started", || {
            world.supervisors().into_iter().find(|pid| !sources.contains(pid))
        });
        std::thread::sleep(Duration::from_millis(millis));
        kill_process(Pid::from_raw(clone).expect("a process id"), Signal::KILL).ok();
        let outcome = Outcome::wait_for(forking).code(125).printed("");
        outcome.stderr_contains("no clone was started").stderr_contains("it was killed");
        assert_no_clones(&world, "");
        assert_eq!(world.supervisors(), sources, "after {millis} ms");
    }
    world.assert_removes_all();
}

#[test]
fn a_killed_fork_leaves_all_clones_or_none() {
    let world = World::new(User::Root);
    start_source(&world);
    for millis in [50, 150, 250, 350, 500] {
        let mut forking = world.spawn(["fork", "web", "-n", "3", "--name", "try"]);
        std::thread::sleep(Duration::from_millis(millis));
        forking.kill().ok();
        forking.wait().expect("ends");
        let count = until("all clones run or none exists", || {
            let count = |args: &[&str]| world.mimeo(["ps", "-q"].iter().chain(args)).stdout.lines().count();
            let none = count(&["-a"]) == 1 && world.supervisors().len() == 1;
            let all = count(&["-f", "status=running"]) == 4;
            none.then_some(1).or(all.then_some(4))
        });
        println!("after {millis} ms: {}", count - 1);
        assert_eq!(world.sh("web", "cat /file"), "saved");
        for clone in (1..=3).filter(|_| count == 4).map(|n| format!("try-{n}")) {
            assert_eq!(world.sh(&clone, "cat /file"), "saved");
            world.mimeo(["rm", "-f", &clone]).ok();
        }
    }
    world.assert_removes_all();
}

#[test]
fn a_fork_leaves_its_source_unchanged() {
    let world = World::new(User::Root);
    start_source(&world);
    let line = "hostname; cat /proc/sys/kernel/random/boot_id /etc/machine-id /run/mimeo/generation /run/mimeo/env; \
                ip addr show eth0 | grep -E 'inet|ether'; env | sort; cat /etc/hosts";
    let before = world.sh("web", line);
    fork(&world, &["web", "-n", "2", "-e", "A=new"]);
    assert_eq!(world.sh("web", line), before);
    world.assert_removes_all();
}
