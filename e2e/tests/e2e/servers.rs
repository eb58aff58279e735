//! `mimeo snapshot serve`: a process whose end is the end of its copies.

use std::time::Duration;

use e2e::{Outcome, Server, User, World, as_root_and_user, signal, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Serves what the machine holds: whose page it is shows who answers.
const SERVE: &str = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 8000 -h /www";

/// A machine of 128 MiB that was kept as `kept`, and is gone.
fn kept(world: &World) {
    let image = world.busybox();
    let args = ["--name", "web", "-m", "128m", "-p", "127.0.0.1::8000", "-e", "A=old"];
    world.start(args.iter().chain(&[&*image, "sh", "-c", SERVE]));
    until("the page comes", || world.fetch_page(&world.published("web", "8000")));
    world.snapshot("web", "kept");
    world.mimeo(["rm", "-f", "web"]).ok();
}

/// Waits until so many copies are ready; what is told of the server then.
fn until_ready(world: &World, served: &Server, count: u64) -> Value {
    until("the pool is full", || world.server_status(&served.id).filter(|serve| serve["ready"] == count))
}

/// Starts a copy from a server; what was told of it.
#[track_caller]
fn take(world: &World, served: &Server, args: &[&str]) -> Value {
    let copies = world.clones(&[&["--pid", &*served.pid], args].concat());
    assert_eq!(copies.len(), 1);
    copies[0].clone()
}

#[track_caller]
fn assert_gone(world: &World, served: &Server) {
    world.wait_until_no_process();
    world.mimeo(["ps", "-aq"]).code(0).printed("");
    assert_eq!(world.server_status(&served.id), None);
    assert!(!served.socket.exists());
    world.assert_removes_all();
}

as_root_and_user!(a_server_is_listed_and_starts_clones, |world| {
    kept(world);
    let served = world.serve(&["kept"]);
    assert_eq!(served.pid, served.child.id().to_string());
    assert!(served.socket.exists() && served.id.len() == 12);
    take(world, &served, &["--name", "one", "-e", "A=new"]);
    world.clones(&["--pid", &served.id, "--name", "two"]);
    assert_eq!(world.sh("one", "echo $A"), "new");
    assert_eq!(world.sh("two", "echo $A"), "", "the original's environment is not its own");
    for copy in ["one", "two"] {
        assert_eq!(world.fetch_page(&world.published(copy, "8000")).as_deref(), Some("page\n"));
    }
    let table = world.mimeo(["snapshot", "ls"]).ok().stdout;
    let mut lines = table.lines().skip_while(|line| !line.starts_with("SERVE_ID"));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next().expect("headings")), ["SERVE_ID", "PID", "HEALTH", "SNAPSHOT", "CLONES"]);
    let row = words(lines.next().expect("a server"));
    assert_eq!(row, [&*served.id, &*served.pid, "healthy", "kept", "2"]);
    world.mimeo(["snapshot", "run", "--pid", "1"]).code(125).stderr_contains("no server of snapshots");
    world.mimeo(["snapshot", "rm", "kept"]).code(125).stderr_contains(&format!("serve {}", served.id));
    // What is stopped goes.
    world.mimeo(["stop", "-t", "0", "two"]).ok();
    until("it is gone", || world.server_status(&served.id).filter(|serve| serve["clones"] == 1));
    world.mimeo(["ps", "-a", "--format", "{{.Names}}"]).ok().printed("one\n");
    signal(&served.child, Signal::TERM);
    assert_gone(world, &served);
});

#[test]
fn a_killed_server_takes_only_its_clones_along() {
    let world = World::new(User::Root);
    kept(&world);
    let doomed = world.serve(&["kept", "--pool", "1"]);
    let spared = world.serve(&["kept"]);
    take(&world, &doomed, &["--name", "one"]);
    take(&world, &spared, &["--name", "two"]);
    world.clones(&["kept", "--name", "three"]);
    until_ready(&world, &doomed, 1);
    let (id, socket) = (doomed.id.clone(), doomed.socket.clone());
    doomed.end(Signal::KILL);
    until("its copies have ended", || (world.mimeo(["ps", "-aq"]).stdout.lines().count() == 2).then_some(()));
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
    kept(&world);
    let served = world.serve(&["kept", "--pool", "2"]);
    let told = until_ready(&world, &served, 2);
    assert_eq!((&told["clones"], &told["pool"], &told["called"]), (&json!(0), &json!(2), &json!("kept")));
    let waiting = world.supervisors();
    let copy = take(&world, &served, &["--name", "one", "-e", "A=new", "-p", "127.0.0.1::8000"]);
    // It was there before it was asked for.
    assert!(waiting.contains(&(copy["pid"].as_i64().expect("a process id") as i32)), "{copy}");
    assert_eq!(
        world.sh("one", "echo $A; hostname"),
        format!("new\n{}", &copy["id"].as_str().expect("an id")[..12])
    );
    assert_eq!(world.fetch_page(&world.published("one", "8000")).as_deref(), Some("page\n"));
    assert_eq!(world.inspect("one")["Identity"].as_array().map(Vec::len), Some(10));
    // More than are ready, at once.
    let json = world.mimeo(["snapshot", "run", "--pid", &served.pid, "-n", "4", "--name", "more", "--json"]);
    let copies = json.ok().json();
    let mut ids: Vec<_> =
        copies.as_array().expect("a list").iter().map(|copy| copy["generation"].clone()).collect();
    ids.push(copy["generation"].clone());
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 5, "{copies:#}");
    let told = until_ready(&world, &served, 2);
    assert_eq!(told["clones"], 5);
    signal(&served.child, Signal::INT);
    assert_gone(&world, &served);
}

#[test]
fn a_clone_that_dies_in_the_pool_is_replaced() {
    let world = World::new(User::Root);
    kept(&world);
    let served = world.serve(&["kept", "--pool", "1"]);
    until_ready(&world, &served, 1);
    let waiting = world.supervisors();
    kill_process(Pid::from_raw(waiting[0]).expect("a process id"), Signal::KILL).expect("it lives");
    until("it is gone", || (!world.supervisors().contains(&waiting[0])).then_some(()));
    drop(world.mimeo(["ps"]).code(0));
    take(&world, &served, &["--name", "one"]);
    assert_eq!(world.sh("one", "echo on"), "on");
    until_ready(&world, &served, 1);
    signal(&served.child, Signal::TERM);
    assert_gone(&world, &served);
}

#[test]
fn clients_of_a_killed_server_get_an_error() {
    let world = World::new(User::Root);
    kept(&world);
    for (pool, millis) in [("0", 20), ("0", 150), ("3", 20), ("3", 100)] {
        let served = world.serve(&["kept", "--pool", pool]);
        if pool == "3" {
            until("one is ready", || world.server_status(&served.id).filter(|serve| serve["ready"] != 0));
        }
        let asking: Vec<_> = (0..3)
            .map(|n| {
                world.spawn(["snapshot", "run", "--pid", &served.pid, "-n", "3", "--name", &format!("c{n}")])
            })
            .collect();
        std::thread::sleep(Duration::from_millis(millis));
        let socket = served.socket.clone();
        served.end(Signal::KILL);
        for outcome in asking.into_iter().map(Outcome::wait_for) {
            let told = outcome.stdout.lines().count() + outcome.stderr.lines().count();
            assert!(outcome.code == 125 && told >= 1 || outcome.code == 0 && told == 3, "{outcome:#?}");
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
    kept(&world);
    let serves: Vec<_> = (0..3).map(|_| world.serve(&["kept", "--pool", "1"])).collect();
    for (n, served) in serves.iter().enumerate() {
        take(&world, served, &["--name", &format!("copy-{n}")]);
    }
    let all = world.mimeo(["snapshot", "ls", "--json"]).ok().json();
    assert_eq!(all["serves"].as_array().map(Vec::len), Some(3), "{all:#}");
    assert!(all["snapshots"][0]["clones"].as_u64() >= Some(3), "{all:#}");
    for served in serves {
        served.end(Signal::TERM);
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
    world.mimeo(["snapshot", "serve", &runtime]).code(125).stderr_contains("this is a runtime snapshot");
    world.mimeo(["snapshot", "run", &runtime]).code(125).stderr_contains("this is a runtime snapshot");
    world.assert_empty();
}
