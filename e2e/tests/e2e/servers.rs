//! `mimeo snapshot serve`: clones end with the server that started them.

use std::time::Duration;

use e2e::{Outcome, Server, User, World, as_root_and_user, signal, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A workload with a web server.
const SERVE: &str = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";

/// Saves a machine of 128 MiB as `saved` and removes the machine.
fn save_and_remove(world: &World) {
    let image = world.busybox();
    let args = ["--name", "web", "-m", "128m", "-p", "127.0.0.1::8000", "-e", "A=old"];
    world.start(args.iter().chain(&[&*image, "sh", "-c", SERVE]));
    until("the page is served", || world.fetch_page(&world.published("web", "8000")));
    world.snapshot("web", "saved");
    world.mimeo(["rm", "-f", "web"]).ok();
}

/// Waits until `count` clones are ready; returns the server's status.
fn until_ready(world: &World, server: &Server, count: u64) -> Value {
    until("the pool is full", || world.server_status(&server.id).filter(|serve| serve["ready"] == count))
}

/// Starts a clone from a server; returns its JSON object.
#[track_caller]
fn start_clone(world: &World, server: &Server, args: &[&str]) -> Value {
    let clones = world.clones(&[&["--pid", &*server.pid], args].concat());
    assert_eq!(clones.len(), 1);
    clones[0].clone()
}

#[track_caller]
fn assert_gone(world: &World, server: &Server) {
    world.wait_until_no_process();
    world.mimeo(["ps", "-aq"]).code(0).printed("");
    assert_eq!(world.server_status(&server.id), None);
    assert!(!server.socket.exists());
    world.assert_removes_all();
}

as_root_and_user!(a_server_is_listed_and_starts_clones, |world| {
    save_and_remove(world);
    let server = world.serve(&["saved"]);
    assert_eq!(server.pid, server.child.id().to_string());
    assert!(server.socket.exists() && server.id.len() == 12);
    start_clone(world, &server, &["--name", "one", "-e", "A=new"]);
    world.clones(&["--pid", &server.id, "--name", "two"]);
    assert_eq!(world.sh("one", "echo $A"), "new");
    assert_eq!(world.sh("two", "echo $A"), "", "the original's environment is not its own");
    for clone in ["one", "two"] {
        assert_eq!(world.fetch_page(&world.published(clone, "8000")).as_deref(), Some("page\n"));
    }
    let table = world.mimeo(["snapshot", "ls"]).ok().stdout;
    let mut lines = table.lines().skip_while(|line| !line.starts_with("SERVE_ID"));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next().expect("headings")), ["SERVE_ID", "PID", "HEALTH", "SNAPSHOT", "CLONES"]);
    let row = words(lines.next().expect("a server"));
    assert_eq!(row, [&*server.id, &*server.pid, "healthy", "saved", "2"]);
    world.mimeo(["snapshot", "run", "--pid", "1"]).code(125).stderr_contains("no snapshot server");
    world
        .mimeo(["snapshot", "rm", "saved"])
        .code(125)
        .stderr_contains(&format!("snapshot server {}", server.id));
    // A stopped clone is removed.
    world.mimeo(["stop", "-t", "0", "two"]).ok();
    until("the clone is gone", || world.server_status(&server.id).filter(|serve| serve["clones"] == 1));
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).ok().printed("one\n");
    signal(&server.child, Signal::TERM);
    assert_gone(world, &server);
});

#[test]
fn a_killed_server_takes_only_its_clones_along() {
    let world = World::new(User::Root);
    save_and_remove(&world);
    let doomed = world.serve(&["saved", "--pool", "1"]);
    let spared = world.serve(&["saved"]);
    start_clone(&world, &doomed, &["--name", "one"]);
    start_clone(&world, &spared, &["--name", "two"]);
    world.clones(&["saved", "--name", "three"]);
    until_ready(&world, &doomed, 1);
    let (id, socket) = (doomed.id.clone(), doomed.socket.clone());
    doomed.end(Signal::KILL);
    until("its clones have ended", || (world.mimeo(["ps", "-aq"]).stdout.lines().count() == 2).then_some(()));
    assert_eq!(world.server_status(&id), None);
    assert!(!socket.exists() && !world.home().join("serves").join(id).exists());
    assert_eq!(world.sh("two", "echo on") + &world.sh("three", "echo on"), "onon");
    spared.end(Signal::TERM);
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).ok().printed("three\n");
    world.assert_removes_all();
}

#[test]
fn a_pool_hands_out_clones_and_refills() {
    let world = World::new(User::Root);
    save_and_remove(&world);
    let server = world.serve(&["saved", "--pool", "2"]);
    let status = until_ready(&world, &server, 2);
    assert_eq!(
        (&status["clones"], &status["pool"], &status["snapshot_name"]),
        (&json!(0), &json!(2), &json!("saved"))
    );
    let waiting = world.supervisors();
    let clone = start_clone(&world, &server, &["--name", "one", "-e", "A=new", "-p", "127.0.0.1::8000"]);
    // The clone was started before it was requested.
    assert!(waiting.contains(&(clone["pid"].as_i64().expect("a process id") as i32)), "{clone}");
    assert_eq!(
        world.sh("one", "echo $A; hostname"),
        format!("new\n{}", &clone["id"].as_str().expect("an id")[..12])
    );
    assert_eq!(world.fetch_page(&world.published("one", "8000")).as_deref(), Some("page\n"));
    assert_eq!(world.inspect("one")["Identity"].as_array().map(Vec::len), Some(10));
    // More clones at once than the pool holds.
    let json = world.mimeo(["snapshot", "run", "--pid", &server.pid, "-n", "4", "--name", "more", "--json"]);
    let clones = json.ok().json();
    let mut ids: Vec<_> =
        clones.as_array().expect("a list").iter().map(|clone| clone["vm_generation"].clone()).collect();
    ids.push(clone["vm_generation"].clone());
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 5, "{clones:#}");
    let status = until_ready(&world, &server, 2);
    assert_eq!(status["clones"], 5);
    signal(&server.child, Signal::INT);
    assert_gone(&world, &server);
}

#[test]
fn a_clone_that_dies_in_the_pool_is_replaced() {
    let world = World::new(User::Root);
    save_and_remove(&world);
    let server = world.serve(&["saved", "--pool", "1"]);
    until_ready(&world, &server, 1);
    let waiting = world.supervisors();
    kill_process(Pid::from_raw(waiting[0]).expect("a process id"), Signal::KILL)
        .expect("the supervisor runs");
    // The kernel releases the machine's lock a little after the command line of an exiting process is gone.
    until("a command reports the dead supervisor", || {
        world.mimeo(["ps"]).code(0).stderr.contains("the supervisor died").then_some(())
    });
    start_clone(&world, &server, &["--name", "one"]);
    assert_eq!(world.sh("one", "echo on"), "on");
    until_ready(&world, &server, 1);
    signal(&server.child, Signal::TERM);
    assert_gone(&world, &server);
}

#[test]
fn clients_of_a_killed_server_get_an_error() {
    let world = World::new(User::Root);
    save_and_remove(&world);
    for (pool, millis) in [("0", 20), ("0", 150), ("3", 20), ("3", 100)] {
        let server = world.serve(&["saved", "--pool", pool]);
        if pool == "3" {
            until("a clone is ready", || world.server_status(&server.id).filter(|serve| serve["ready"] != 0));
        }
        let clients: Vec<_> = (0..3)
            .map(|n| {
                world.spawn(["snapshot", "run", "--pid", &server.pid, "-n", "3", "--name", &format!("c{n}")])
            })
            .collect();
        std::thread::sleep(Duration::from_millis(millis));
        let socket = server.socket.clone();
        server.end(Signal::KILL);
        for outcome in clients.into_iter().map(Outcome::wait_for) {
            let lines = outcome.stdout.lines().count() + outcome.stderr.lines().count();
            assert!(outcome.code == 125 && lines >= 1 || outcome.code == 0 && lines == 3, "{outcome:#?}");
        }
        world.wait_until_no_process();
        world.mimeo(["ps", "-aq"]).code(0).printed("");
        assert!(!socket.exists());
    }
    world.assert_removes_all();
}

#[test]
fn several_servers_share_a_snapshot() {
    let world = World::new(User::Root);
    save_and_remove(&world);
    let servers: Vec<_> = (0..3).map(|_| world.serve(&["saved", "--pool", "1"])).collect();
    for (n, server) in servers.iter().enumerate() {
        start_clone(&world, server, &["--name", &format!("clone-{n}")]);
    }
    let all = world.mimeo(["snapshot", "ls", "--json"]).ok().json();
    assert_eq!(all["serves"].as_array().map(Vec::len), Some(3), "{all:#}");
    assert!(all["snapshots"][0]["clones"].as_u64() >= Some(3), "{all:#}");
    for server in servers {
        server.end(Signal::TERM);
    }
    world.wait_until_no_process();
    world.assert_removes_all();
}

#[test]
fn unservable_snapshots_are_refused() {
    let world = World::new(User::Root);
    world.mimeo(["snapshot", "serve", "nobody"]).code(125).stderr_contains("no snapshot with tag or id");
    let all = world.mimeo(["snapshot", "ls", "--all", "--json"]).ok().json();
    let runtime = all["snapshots"][0]["id"].as_str().expect("an id").to_owned();
    world.mimeo(["snapshot", "serve", &runtime]).code(125).stderr_contains("this is a boot snapshot");
    world.mimeo(["snapshot", "run", &runtime]).code(125).stderr_contains("this is a boot snapshot");
    world.assert_empty();
}
