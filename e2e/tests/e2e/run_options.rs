//! Options of `run` that podman.rs cannot compare with podman: those that take time, a signal, a registry or a clone.

use std::fs;

use e2e::{Image, LOGIN, Layer, Outcome, Registry, User, World, as_root_and_user, until};
use rustix::process::Signal;

/// Prints a line at each start, and runs until it is stopped.
const UP: &str = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done";

fn ups(world: &World, name: &str) -> usize {
    world.mimeo(["logs", name]).stdout.lines().count()
}

fn until_ups(world: &World, name: &str, count: usize) {
    until("it has started", || (ups(world, name) >= count).then_some(()));
}

as_root_and_user!(a_signal_that_is_not_forwarded_ends_only_the_client, |world| {
    let image = world.busybox();
    let client = world.spawn(["run", "--sig-proxy=false", "--name", "web", &image, "sh", "-c", UP]);
    until_ups(world, "web", 1);
    rustix::process::kill_process(rustix::process::Pid::from_child(&client), Signal::INT).expect("signalled");
    Outcome::wait_for(client).code(130);
    world.mimeo(["exec", "web", "true"]).ok();
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["wait", "web"]).ok().printed("5\n");
    world.mimeo(["rm", "web"]).ok();
    world.assert_empty();
});

#[test]
fn an_unhealthy_machine_is_started_again() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let options = ["--health-cmd", "test ! -e /bad", "--health-interval", "200ms", "--health-retries", "2"];
    let start = |name: &str, more: &[&str]| {
        let more = more.iter().chain(&options).copied();
        let all = ["--name", name, "--health-start-period", "0s", "--health-on-failure", "restart"];
        world.start(all.into_iter().chain(more).chain([
            &*image,
            "sh",
            "-c",
            "rm -f /bad; echo up; sleep 1000",
        ]));
        until_ups(&world, name, 1);
    };
    start("web", &["--stop-timeout", "0"]);
    start("temporary", &["--rm", "--stop-timeout", "0"]);
    for name in ["web", "temporary"] {
        world.mimeo(["exec", name, "touch", "/bad"]).ok();
        until_ups(&world, name, 2);
        until("it is healthy again", || {
            (world.inspect(name)["State"]["Health"]["Status"] == "healthy").then_some(())
        });
    }
    assert_eq!(world.inspect("web")["Config"]["HealthcheckOnFailureAction"], "restart");
    world.mimeo(["stop", "web", "temporary"]).ok();
    assert_eq!((ups(&world, "web"), world.inspect("web")["RestartCount"].clone()), (2, 1.into()));
    world.mimeo(["rm", "web"]).ok();
    world.assert_empty();
}

/// Starts an unhealthy machine that ignores its stop signal, and waits until it is to be started again for that.
fn until_unhealthy_restart(world: &World, image: &str) {
    world.start([
        "--rm",
        "--name",
        "web",
        "--stop-timeout",
        "1000",
        "--health-cmd",
        "false",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
        "--health-start-period",
        "0s",
        "--health-on-failure",
        "restart",
        image,
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 0.1; done",
    ]);
    until_ups(world, "web", 1);
    world.mimeo(["healthcheck", "run", "web"]).code(1).printed("unhealthy\n");
    until("it is stopping", || (world.inspect("web")["State"]["Status"] == "stopping").then_some(()));
}

as_root_and_user!(a_restart_of_an_unhealthy_machine_can_be_cancelled, |world| {
    let image = world.busybox();
    until_unhealthy_restart(world, &image);
    world.mimeo(["kill", "web"]).ok();
    world.wait_until_no_process();
    world.assert_empty();
    until_unhealthy_restart(world, &image);
    let pid = world.inspect("web")["State"]["Pid"].as_i64().expect("a pid");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
    world.wait_until_no_process();
    world.assert_empty();
});

#[test]
fn a_check_counts_when_it_is_answered_and_only_if_the_machine_has_run() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let start = |name: &str, check: &str, more: &[&str]| {
        let options = ["--name", name, "--health-cmd", check, "--health-interval", "disable"];
        let streak = ["--health-retries", "1", "--health-start-period", "0s"];
        let command = [&*image, "sleep", "1000"];
        world.start(options.into_iter().chain(streak).chain(more.iter().copied()).chain(command));
    };
    let status = |name: &str| world.inspect(name)["State"]["Health"]["Status"].clone();
    start("web", "test -e /ok", &[]);
    for (change, code, expected) in [("touch", 0, "healthy"), ("rm", 1, "unhealthy")].repeat(5) {
        world.mimeo(["exec", "web", change, "/ok"]).ok();
        world.mimeo(["healthcheck", "run", "web"]).code(code);
        assert_eq!(status("web"), expected);
    }
    let more = ["--health-timeout", "30s", "--health-on-failure", "stop", "--stop-timeout", "0"];
    start("slow", "touch /checks; test -e /fail || sleep 1000", &more);
    let check = world.spawn(["healthcheck", "run", "slow"]);
    until("it is being checked", || {
        (world.mimeo(["exec", "slow", "test", "-e", "/checks"]).code == 0).then_some(())
    });
    world.mimeo(["exec", "slow", "touch", "/fail"]).ok();
    world.mimeo(["pause", "slow"]).ok();
    // It takes longer than it may because the machine is paused.
    Outcome::wait_for(check).code(125).stderr_contains("it is paused");
    assert_eq!(status("slow"), "starting");
    world.mimeo(["unpause", "slow"]).ok();
    assert_eq!(world.sh("slow", "echo on"), "on");
    world.mimeo(["rm", "-f", "-t", "0", "web", "slow"]).ok();
    start("web", "false", &["--health-on-failure", "stop", "--stop-timeout", "0"]);
    world.mimeo(["healthcheck", "run", "web"]).code(1).printed("unhealthy\n");
    world.mimeo(["wait", "web"]).ok();
    assert_eq!(status("web"), "unhealthy");
}

#[test]
fn a_clone_is_killed_after_its_own_time() {
    let world = World::new(User::Root);
    let image = world.busybox();
    // A machine must live until it is cloned, and its clone until it is paused, however slow this host is.
    let clone_within = |seconds: &str| {
        world.mimeo(["rm", "-f", "-t", "0", "-i", "web", "clone"]).code(0);
        world.start(["--name", "web", "--timeout", seconds, &image, "sh", "-c", UP]);
        until_ups(&world, "web", 1);
        let forked = world.mimeo(["fork", "web", "--name", "clone"]).code == 0;
        let written = forked && world.mimeo(["exec", "clone", "sh", "-c", "echo kept > /file"]).code == 0;
        written && world.mimeo(["pause", "clone"]).code == 0
    };
    assert!(["20", "60", "180", "540"].into_iter().any(clone_within));
    world.mimeo(["wait", "web", "clone"]).ok().printed("-1\n-1\n");
    let started = |name: &str| world.inspect(name)["State"]["StartedAt"].as_str().map(str::to_owned);
    assert!(started("web") < started("clone"));
    // A guest that was paused flushes its disk nevertheless.
    world.mimeo(["cp", "clone:/file", "file"]).ok();
    assert_eq!(fs::read_to_string(world.files().join("file")).expect("copied"), "kept\n");
    // Each start has the whole time.
    let ups_before = ups(&world, "web");
    world.mimeo(["start", "web"]).ok();
    until_ups(&world, "web", ups_before + 1);
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["wait", "web"]).ok().printed("5\n");
}

as_root_and_user!(the_hosts_file_of_the_image_is_left_alone, |world| {
    let plain = world.busybox();
    let own = Image::busybox("own").layer(Layer::default().file("etc/hosts", 0o644, "192.0.2.7 db\n"));
    let own = world.image(&own);
    world.mimeo(["run", "--rm", "--no-hosts", &own, "cat", "/etc/hosts"]).ok().printed("192.0.2.7 db\n");
    world.mimeo(["run", "--rm", &own, "grep", "-c", "db", "/etc/hosts"]).code(1);
    world.mimeo(["create", "--name", "job", "--no-hosts", &plain, "cat", "/etc/hosts"]).ok();
    // The guest that reads the files of a machine that does not run creates none either.
    world.mimeo(["cp", "job:/etc/passwd", "passwd"]).ok();
    world.mimeo(["start", "-a", "job"]).code(1).stderr_contains("No such file");
    world.file("hosts", "192.0.2.8 own\n");
    world.mimeo(["cp", "hosts", "job:/etc/hosts"]).ok();
    world.mimeo(["start", "-a", "job"]).ok().printed("192.0.2.8 own\n");
    world.mimeo(["commit", "-q", "job", "changed"]).ok();
    world.mimeo(["run", "--rm", "--no-hosts", "changed"]).ok().printed("192.0.2.8 own\n");
    // A clone keeps it.
    world.start(["--name", "web", "--no-hosts", &own, "sleep", "1000"]);
    world.mimeo(["fork", "web", "--name", "clone"]).ok();
    world.mimeo(["exec", "clone", "cat", "/etc/hosts"]).ok().printed("192.0.2.7 db\n");
});

#[test]
fn run_pulls_with_a_login_file_and_what_is_newer() {
    let world = World::new(User::Root);
    let registry = Registry::start_with_login();
    let creds = format!("{}:{}", LOGIN.0, LOGIN.1);
    let push = |name: &str| {
        let image = Image::busybox(name).layer(Layer::default().file("name", 0o644, name));
        image.write_layout(&world.files().join(name));
        registry.push_with(&["--dest-creds", &creds], &world.files().join(name), "app")
    };
    let name = push("first");
    let print =
        |options: &[&str]| world.mimeo([&["run", "--rm"], options, &[&*name, "cat", "/name"]].concat());
    print(&[]).code(125).stderr_contains("log in");
    // me:se:cret
    let login = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2U6Y3JldA=="}}}}}}"#, registry.address);
    world.file("login.json", login);
    let logged_in = ["-q", "--authfile", "login.json"];
    print(&logged_in).ok().printed("first");
    push("second");
    print(&logged_in).ok().printed("first");
    print(&[&logged_in[..], &["--pull", "newer"]].concat()).ok().printed("second");
    world.mimeo(["create", "--authfile", "login.json", "--tls-verify=false", "--name", "job", &name]).ok();
    push("third");
    // A registry that refuses the login does not matter where there is an image.
    print(&["-q", "--pull", "newer"]).ok().printed("second");
    print(&["-q", "--pull", "always"]).code(125).stderr_contains("log in");
    print(&[&logged_in[..], &["--pull", "always"]].concat()).ok().printed("third");
    print(&["--authfile", "none.json"]).code(125).stderr_contains("cannot read --authfile none.json");
    drop(registry);
    print(&["-q", "--pull", "newer"]).ok().printed("third");
    world.mimeo(["rmi", &name]).code(0);
    print(&["-q", "--pull", "newer"]).code(125);
    assert!(!fs::exists(world.files().join("none.json")).expect("looked up"));
}

#[test]
fn bad_values_are_refused() {
    let world = World::bare(User::Root);
    for (args, reason) in [
        (&["--attach", "stdout,tty"][..], "invalid stream \"tty\" for --attach"),
        (&["--timeout", "soon"], "invalid value"),
        (&["--timeout", "-1"], "unexpected argument"),
        (&["--variant", "v7"], "cannot use images for"),
        (&["--health-on-failure", "panic"], "supported actions are none,kill,restart,stop"),
        (&["--health-cmd", "x", "--health-interval", "off"], "is not a duration"),
        (&["--health-cmd", "[]"], "is no command"),
        (&["--no-hosts", "--add-host", "a:1.2.3.4"], "cannot be set together"),
        (&["--sig-proxy=maybe"], "invalid value"),
        (&["--pull", "sometimes"], "invalid value"),
    ] {
        world.mimeo([&["run"], args, &["busybox"]].concat()).code(125).stderr_contains(reason);
    }
}
