//! Machines that start again: by `start` and `restart`, by their restart policy, and after a reboot.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Terminal, User, World, as_root_and_user, is_alive, until};
use serde_json::{Value, json};

/// Adds a line to a file on the machine's disk, and runs until it is stopped.
const COUNTS_STARTS: &str =
    "echo start >> /starts; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

fn starts(world: &World, name: &str) -> usize {
    world.mimeo(["exec", name, "cat", "/starts"]).ok().stdout.lines().count()
}

fn inspect(world: &World, name: &str) -> Value {
    world.mimeo(["inspect", name]).ok().json()[0].clone()
}

fn until_status(world: &World, name: &str, status: &str) {
    until(&format!("{name} is {status}"), || {
        (inspect(world, name)["State"]["Status"] == status).then_some(())
    });
}

fn until_starts(world: &World, name: &str, count: usize) {
    until("the container has started", || {
        let log = world.mimeo(["logs", name]).stdout;
        (log.matches("ready").count() >= count).then_some(())
    });
}

as_root_and_user!(a_machine_keeps_its_disk_over_ten_restarts, |world| {
    let image = world.busybox();
    world.start(["--name", "web", "-p", "127.0.0.1::80", &image, "sh", "-c", COUNTS_STARTS]);
    let port = world.mimeo(["port", "web"]).ok().stdout;
    until_starts(world, "web", 1);
    for count in 2..=11 {
        world.mimeo(["restart", "web"]).ok().printed("web\n");
        until_starts(world, "web", count);
        assert_eq!(starts(world, "web"), count);
    }
    let document = inspect(world, "web");
    assert_eq!(document["BootMethod"], "warm", "{document:#}");
    world.mimeo(["port", "web"]).ok().printed(&port);
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["restart", "web"]).ok();
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
});

as_root_and_user!(a_created_machine_starts_when_it_is_told_to, |world| {
    let image = world.busybox();
    let id =
        world.mimeo(["create", "--name", "job", "-e", "A=1", &image, "sh", "-c", "echo $A; exit 3"]).ok();
    let id = id.text().to_owned();
    world.wait_until_no_process();
    world.mimeo(["ps", "-q"]).ok().printed("");
    let row = &world.mimeo(["ps", "-a", "--json"]).ok().json()[0];
    assert_eq!((&row["Id"], &row["State"]), (&json!(id), &json!("created")), "{row:#}");
    world.mimeo(["exec", "job", "true"]).code(255).stderr_contains("not running");
    for refused in [&["attach", "job"][..], &["kill", "job"], &["pause", "job"]] {
        world.mimeo(refused).code(125);
    }
    world.mimeo(["stop", "job"]).ok();
    world.mimeo(["start", "--attach", "job"]).code(3).printed("1\n");
    world.mimeo(["start", "--attach", "job"]).code(3).printed("1\n");
    world.mimeo(["logs", "job"]).ok().printed("1\n1\n");
    world.mimeo(["rm", "job"]).ok();
    world.assert_empty();
});

#[test]
fn a_start_that_fails_leaves_the_machine_as_it_was() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shared = world.files().join("shared");
    fs::create_dir(&shared).expect("created");
    let volume = format!("{}:/shared", shared.display());
    world.mimeo(["run", "--name", "job", "-v", &volume, &image, "sh", "-c", "echo x > /f; exit 4"]).code(4);
    fs::remove_dir(&shared).expect("removed");
    let before = inspect(&world, "job");
    world.mimeo(["start", "job"]).code(125).stderr_contains("does not exist on this host");
    world.mimeo(["restart", "job"]).code(125).stderr_contains("does not exist on this host");
    world.wait_until_no_process();
    assert_eq!(inspect(&world, "job"), before);
    fs::create_dir(&shared).expect("created");
    world.mimeo(["start", "-a", "job"]).code(4);
    world.mimeo(["create", "--name", "bad", &image, "/no/such/program"]).ok();
    world.mimeo(["start", "bad"]).code(127).stderr_contains("/no/such/program");
    assert_eq!(inspect(&world, "bad")["State"]["Status"], "created");
    world.mimeo(["start", "none"]).code(125).stderr_contains("no such container");
    world.mimeo(["start"]).code(125).stderr_contains("no machine selected");
}

#[test]
fn starts_at_the_same_time_start_a_machine_once() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["create", "--name", "web", &image, "sh", "-c", COUNTS_STARTS]).ok();
    let commands: Vec<_> = (0..4).map(|_| world.spawn(["start", "web"])).collect();
    for command in commands {
        e2e::Outcome::wait_for(command).ok().printed("web\n");
    }
    until_starts(&world, "web", 1);
    assert_eq!(starts(&world, "web"), 1);
    world.mimeo(["start", "web"]).ok();
    assert_eq!(starts(&world, "web"), 1);
}

#[test]
fn snapshots_and_clones_of_machines_that_started_again_have_their_disks() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sh", "-c", COUNTS_STARTS]);
    until_starts(&world, "web", 1);
    world.mimeo(["snapshot", "create", "web", "--tag", "one"]).ok();
    world.mimeo(["exec", "web", "sh", "-c", "echo later > /later"]).ok();
    // Its disk has two layers now, of which the snapshot holds the lower one.
    world.mimeo(["restart", "web"]).ok();
    until_starts(&world, "web", 2);
    assert_eq!(starts(&world, "web"), 2);
    world.mimeo(["exec", "web", "cat", "/later"]).ok().printed("later\n");
    world.mimeo(["snapshot", "create", "web", "--tag", "two"]).ok();
    world.mimeo(["snapshot", "run", "one", "--name", "first"]).ok();
    world.mimeo(["snapshot", "run", "two", "--name", "second"]).ok();
    world.mimeo(["exec", "first", "cat", "/later"]).code(1);
    assert_eq!((starts(&world, "first"), starts(&world, "second")), (1, 2));
    world.mimeo(["exec", "second", "sh", "-c", "echo own > /later"]).ok();
    world.mimeo(["snapshot", "rm", "two"]).ok();
    world.mimeo(["restart", "second"]).ok();
    until("the clone runs", || (inspect(&world, "second")["State"]["Status"] == "running").then_some(()));
    world.mimeo(["exec", "second", "cat", "/later"]).ok().printed("own\n");
    world.mimeo(["exec", "web", "cat", "/later"]).ok().printed("later\n");
    let document = inspect(&world, "second");
    assert_eq!(document["BootMethod"], "warm", "{document:#}");
}

#[test]
fn a_clone_that_starts_again_has_its_sources_settings() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let prints = "echo $ONE $TWO $THREE in $(pwd) as $(id -u); sleep 1000";
    let options = ["-e", "ONE=1", "-e", "TWO=2", "-w", "/tmp", "-u", "1000", "--stop-timeout", "0"];
    world.start(["--name", "web"].iter().chain(&options).chain(&[&*image, "sh", "-c", prints]));
    let log = |name: &str| world.mimeo(["logs", name]).ok().stdout;
    let until_printed =
        |name: &str, text: &str| until("it has started", || (log(name) == text).then_some(()));
    until_printed("web", "1 2 in /tmp as 1000\n");
    world.mimeo(["snapshot", "create", "web", "--tag", "saved"]).ok();
    world.mimeo(["snapshot", "run", "saved", "--name", "clone", "-e", "TWO=own", "-e", "THREE=3"]).ok();
    world.mimeo(["exec", "clone", "sh", "-c", "echo $ONE-$TWO"]).ok().printed("-own\n");
    // A clone of the clone inherits from both.
    world.mimeo(["fork", "clone", "--name", "second", "-e", "THREE=4"]).ok();
    for (name, expected) in [("clone", "1 own 3 in /tmp as 1000\n"), ("second", "1 own 4 in /tmp as 1000\n")]
    {
        world.mimeo(["restart", name]).ok();
        until_printed(name, expected);
        let env = inspect(&world, name)["Config"]["Env"].clone();
        assert!(env.as_array().is_some_and(|env| env.contains(&"ONE=1".into())), "{env:#}");
        world.mimeo(["exec", name, "sh", "-c", "echo $ONE-$TWO"]).ok().printed("1-own\n");
    }
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["snapshot", "create", "web", "--tag", "disk"]).ok();
    world.mimeo(["snapshot", "run", "disk", "--name", "third", "-e", "THREE=5"]).ok();
    until_printed("third", "1 2 5 in /tmp as 1000\n");
}

as_root_and_user!(a_machine_that_does_not_run_has_snapshots_of_its_disk, |world| {
    let image = world.busybox();
    world.mimeo(["create", "--name", "web", "-p", "127.0.0.1::80", &image, "sh", "-c", COUNTS_STARTS]).ok();
    let fresh = world.mimeo(["snapshot", "create", "web", "--tag", "fresh"]).ok().text().to_owned();
    world.mimeo(["start", "web"]).ok();
    until_starts(world, "web", 1);
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["snapshot", "create", "web", "--tag", "fresh"]).code(125).stderr_contains("in use");
    world.mimeo(["snapshot", "create", "web", "--tag", "stopped"]).ok();
    let listed = world.mimeo(["snapshot", "ls", "--json"]).ok().stdout;
    assert!(listed.contains(&fresh) && listed.contains("stopped"), "{listed}");
    world.mimeo(["snapshot", "run", "stopped", "-n", "2", "--name", "clone"]).ok();
    for name in ["clone-1", "clone-2"] {
        until_starts(world, name, 1);
        assert_eq!(starts(world, name), 2, "{name}");
    }
    world.mimeo(["restart", "clone-1"]).ok();
    until_starts(world, "clone-1", 2);
    assert_eq!((starts(world, "clone-1"), starts(world, "clone-2")), (3, 2));
    world.mimeo(["snapshot", "run", "fresh", "--name", "first"]).ok();
    until_starts(world, "first", 1);
    assert_eq!(starts(world, "first"), 1);
    world.mimeo(["snapshot", "serve", "stopped", "--pool", "1"]).code(125).stderr_contains("no memory");
    world.mimeo(["snapshot", "rm", "stopped", "fresh"]).ok();
    world.mimeo(["start", "web"]).ok();
    until_starts(world, "web", 2);
    assert_eq!((starts(world, "web"), starts(world, "clone-2")), (2, 2));
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.assert_empty();
});

as_root_and_user!(a_restart_policy_starts_a_machine_again, |world| {
    let image = world.busybox();
    world.start(["--name", "fails", "--restart", "on-failure:2", &image, "sh", "-c", "echo ready; exit 3"]);
    until_status(world, "fails", "exited");
    let document = inspect(world, "fails");
    assert_eq!(document["RestartCount"], 2, "{document:#}");
    assert_eq!(document["State"]["ExitCode"], 3);
    assert_eq!(
        document["HostConfig"]["RestartPolicy"],
        json!({"Name": "on-failure", "MaximumRetryCount": 2})
    );
    world.mimeo(["logs", "fails"]).ok().printed("ready\nready\nready\n");
    world.start(["--name", "ends", "--restart", "on-failure", &image, "true"]);
    until_status(world, "ends", "exited");
    assert_eq!(inspect(world, "ends")["RestartCount"], 0);
    world.start(["--name", "always", "--restart", "always", &image, "sh", "-c", "echo ready; sleep 0.2"]);
    until_starts(world, "always", 3);
    world.mimeo(["stop", "always"]).ok();
    world.wait_until_no_process();
    assert_eq!(inspect(world, "always")["State"]["Status"], "exited");
    world.mimeo(["rm", "-a"]).ok();
    world.assert_empty();
});

#[test]
fn a_machine_that_waits_for_its_restart_can_be_stopped_and_removed() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for end in [&["stop", "web"][..], &["rm", "-f", "web"], &["restart", "web"]] {
        world.start(["--name", "web", "--restart", "always", &image, "false"]);
        until_status(&world, "web", "restarting");
        world.mimeo(["rm", "web"]).code(2);
        world.mimeo(end).ok();
        world.mimeo(["rm", "-f", "web"]).ok();
        world.assert_empty();
    }
    world.mimeo(["run", "--rm", "--restart", "always", &image, "true"]).code(125).stderr_contains("--rm");
    world.start(["--rm", "--name", "web", &image, "sleep", "1000"]);
    world.mimeo(["update", "--restart", "always", "web"]).code(125).stderr_contains("--rm");
    world.mimeo(["rm", "-f", "web"]).ok();
    world
        .mimeo(["run", "--restart", "sometimes", &image, "true"])
        .code(125)
        .stderr_contains("restart policy");
}

/// The beginning of the command line of `mimeo run`.
fn mimeo_run() -> String {
    format!("{} run", e2e::built_program("mimeo").display())
}

as_root_and_user!(a_terminal_is_detached_and_attached_again, |world| {
    let image = world.busybox();
    let mut terminal = Terminal::start(world, &["run", "-it", "--name", "shell", &image, "sh"]);
    terminal.press("echo one$((1 + 1))\r");
    terminal.until_shows("one2");
    // The process of `run` selects the machine, although another process owns it.
    let front = world.processes().into_iter().find(|(_, line)| line.starts_with(&mimeo_run()));
    let pid = front.expect("mimeo run is attached").0.to_string();
    world.mimeo(["ps", "--pid", &pid, "--format", "{{.Names}}"]).ok().printed("shell\n");
    terminal.press("\u{10}\u{11}");
    assert_eq!(terminal.finish().0, 0);
    world.mimeo(["exec", "shell", "true"]).ok();
    let mut terminal = Terminal::start(world, &["attach", "--detach-keys", "ctrl-x", "shell"]);
    terminal.press("echo two$((1 + 1)); stty size\r");
    terminal.until_shows("33 99");
    assert!(terminal.shown().contains("two2"));
    terminal.press("\u{18}");
    assert_eq!(terminal.finish().0, 0);
    let mut terminal = Terminal::start(world, &["attach", "shell"]);
    terminal.press("exit 7\r");
    assert_eq!(terminal.finish().0, 7);
    world.mimeo(["attach", "shell"]).code(125).stderr_contains("it is exited");
    let mut terminal = Terminal::start(world, &["start", "-ai", "shell"]);
    terminal.press("echo three$((1 + 1)); exit 8\r");
    let (code, shown) = terminal.finish();
    assert!(code == 8 && shown.contains("three2"), "{code} {shown}");
    world.mimeo(["rm", "shell"]).ok();
    let mut terminal = Terminal::start(world, &["run", "-it", "--rm", &image, "sh"]);
    terminal.press("exit 9\r");
    assert_eq!(terminal.finish().0, 9);
    world.assert_empty();
});

#[test]
fn a_temporary_machine_survives_a_restart() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--rm", "--name", "web", &image, "sh", "-c", COUNTS_STARTS]);
    until_starts(&world, "web", 1);
    world.mimeo(["restart", "web"]).ok();
    until_starts(&world, "web", 2);
    assert_eq!(starts(&world, "web"), 2);
    world.mimeo(["stop", "web"]).ok();
    world.assert_empty();
}

#[test]
fn clones_that_are_removed_at_their_end_have_no_restart_policy() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "--restart", "always", &image, "sh", "-c", COUNTS_STARTS]);
    until_starts(&world, "web", 1);
    world.mimeo(["snapshot", "create", "web", "--tag", "saved"]).ok();
    world.mimeo(["snapshot", "run", "saved", "--rm", "--name", "clone"]).ok();
    assert_eq!(inspect(&world, "clone")["HostConfig"]["RestartPolicy"]["Name"], "no");
    world.mimeo(["kill", "-s", "KILL", "clone"]).ok();
    until("the clone is removed", || {
        (world.mimeo(["ps", "-aq"]).code(0).stdout.lines().count() == 1).then_some(())
    });
    world.mimeo(["rm", "-f", "web"]).ok();
    world.mimeo(["snapshot", "rm", "saved"]).ok();
    world.assert_empty();
}

/// Attaches without a terminal; `reader` gets the output.
fn attach_to(world: &World, args: &[&str], reader: impl FnOnce(std::process::ChildStdout)) -> i32 {
    let mut client = world.spawn(args);
    reader(client.stdout.take().expect("piped"));
    client.wait().expect("it ends").code().unwrap_or(-1)
}

#[test]
fn a_client_whose_reader_leaves_ends_no_machine() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sh", "-c", "while :; do echo line; sleep 0.1; done"]);
    let code = attach_to(&world, &["attach", "--no-stdin", "web"], drop);
    assert_eq!(code, 0);
    world.mimeo(["exec", "web", "true"]).ok();
    assert_eq!(inspect(&world, "web")["State"]["Status"], "running");
}

#[test]
fn a_client_that_does_not_read_delays_no_stop() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let floods = "trap 'exit 3' TERM; while :; do head -c 65536 /dev/zero; done";
    world.start(["--name", "web", "--log-driver", "none", &image, "sh", "-c", floods]);
    let code = attach_to(&world, &["attach", "web"], |output| {
        until("the client is attached", || {
            world.processes().iter().any(|(_, line)| line.contains("attach")).then_some(())
        });
        world.mimeo(["stop", "-t", "60", "web"]).ok();
        assert_eq!(inspect(&world, "web")["State"]["ExitCode"], 3);
        drop(output);
    });
    // Its output was not read, so it cannot know the end of it.
    assert!([0, 3, 125].contains(&code), "{code}");
}

#[test]
fn a_signal_through_attach_counts_as_the_users() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "--restart", "always", &image, "sh", "-c", COUNTS_STARTS]);
    until_starts(&world, "web", 1);
    let client = world.spawn(["attach", "web"]);
    until("it is attached", || {
        let args = fs::read_to_string(format!("/proc/{}/status", client.id())).unwrap_or_default();
        // Its handler of SIGTERM is installed.
        let caught = args.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
        let mask = u64::from_str_radix(caught.trim(), 16).unwrap_or_default();
        (mask & (1 << 14) != 0).then_some(())
    });
    e2e::signal(&client, rustix::process::Signal::TERM);
    e2e::Outcome::wait_for(client).code(0);
    world.wait_until_no_process();
    assert_eq!(inspect(&world, "web")["State"]["Status"], "exited");
}

#[test]
fn an_interrupted_creation_leaves_nothing() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let mut command =
        world.command(["create", "--name", "web", "--cidfile", "id", "docker-archive:/dev/stdin"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut creation = command.stdin(reader).stderr(Stdio::null()).spawn().expect("it starts");
    until("the machine is claimed", || {
        let machines = fs::read_dir(world.home().join("machines")).into_iter().flatten();
        machines.flatten().any(|entry| entry.path().join("machine.json").exists()).then_some(())
    });
    e2e::signal(&creation, rustix::process::Signal::INT);
    assert_eq!(creation.wait().expect("it ends").code(), Some(130));
    drop(writer);
    assert!(!world.files().join("id").exists());
    world.assert_empty();
    world.mimeo(["create", "--name", "web", "--cidfile", "id", &image]).ok();
}

#[test]
fn attached_clients_have_the_containers_streams() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["create", "-i", "--name", "cat", &image, "sh", "-c", "cat; echo err >&2; exit 5"]).ok();
    let outcome = world.mimeo_with_input(["start", "--attach", "--interactive", "cat"], b"in\n");
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (5, "in\n", "err\n"), "{outcome:#?}");
    world.start([
        "--name",
        "web",
        &image,
        "sh",
        "-c",
        "trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    until_starts(&world, "web", 1);
    let first = world.spawn(["attach", "web"]);
    let second = world.spawn(["attach", "--sig-proxy=false", "web"]);
    until("both are attached", || {
        (world.processes().iter().filter(|(_, line)| line.contains("attach")).count() == 2).then_some(())
    });
    world.mimeo(["stop", "web"]).ok();
    for client in [first, second] {
        e2e::Outcome::wait_for(client).code(6);
    }
}

#[test]
fn renamed_and_updated_machines_keep_running() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", "-l", "a=1", &image, "sh", "-c", COUNTS_STARTS]);
    world.mimeo(["create", "--name", "other", &image, "true"]).ok();
    world.mimeo(["rename", "web", "other"]).code(125).stderr_contains("in use");
    world.mimeo(["rename", "web", "b@d"]).code(125);
    world.mimeo(["rename", "web", "new"]).ok().printed("");
    world.mimeo(["rename", "other", "web"]).ok();
    world
        .mimeo(["update", "--restart", "always", "--label", "b=2", "--unset-label", "a", "new"])
        .ok()
        .printed(&format!("{id}\n"));
    world.mimeo(["update", "--cpus", "2", "new"]).code(125).stderr_contains("stop it first");
    world.mimeo(["update", "new"]).code(125).stderr_contains("nothing to change");
    let document = inspect(&world, "new");
    assert_eq!(document["Config"]["Labels"], json!({"b": "2"}), "{document:#}");
    assert_eq!(document["HostConfig"]["RestartPolicy"]["Name"], "always");
    world.mimeo(["stop", "new"]).ok();
    world.mimeo(["update", "--cpus", "2", "--memory", "256m", "--restart", "no", "new"]).ok();
    world.mimeo(["start", "new"]).ok();
    until_starts(&world, "new", 2);
    world.mimeo(["exec", "new", "nproc"]).ok().printed("2\n");
    assert_eq!(starts(&world, "new"), 2);
}

/// Runs `mimeo` as if the host had been booted again: with another boot id.
fn after_reboot(world: &World, args: &[&str]) -> e2e::Outcome {
    let boot_id = world.file("boot-id", "11111111-2222-3333-4444-555555555555\n");
    let mut command = world.program("unshare");
    let line = format!("mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"", boot_id.display());
    command.args(["--mount", "sh", "-c", &line, "sh"]).arg(e2e::built_program("mimeo")).args(args);
    world.finish(command)
}

#[test]
fn a_reboot_starts_what_should_run() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let start = |name: &str, policy: &str| {
        world.start(["--name", name, "--restart", policy, &image, "sh", "-c", COUNTS_STARTS]);
        until_starts(&world, name, 1);
    };
    start("always", "always");
    start("stopped-always", "always");
    start("unless-stopped", "unless-stopped");
    start("stopped", "unless-stopped");
    start("stopped-for-reboot", "unless-stopped");
    start("once", "no");
    start("on-failure", "on-failure");
    world.mimeo(["stop", "stopped-always", "stopped"]).ok();
    world.mimeo(["stop", "--for-reboot", "stopped-for-reboot"]).ok();
    let pid = |name| inspect(&world, name)["State"]["Pid"].as_i64().expect("a pid") as i32;
    ["always", "unless-stopped", "once", "on-failure"].map(pid).into_iter().for_each(kill);
    // A killed process holds its lock for a moment after it has left the list of processes.
    until("all are swept", || world.mimeo(["ps", "-q"]).code(0).stdout.is_empty().then_some(()));
    let unit = world.mimeo(["generate", "systemd"]).ok().stdout;
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let words: Vec<_> = line.split(' ').skip(1).collect();
    let started = after_reboot(&world, &words).code(0).stdout;
    let mut started: Vec<_> = started.lines().collect();
    started.sort_unstable();
    let expected = ["always", "stopped-always", "stopped-for-reboot", "unless-stopped"];
    assert_eq!(started, expected);
    for name in expected {
        until_starts(&world, name, 2);
        assert_eq!(inspect(&world, name)["State"]["Status"], "running", "{name}");
    }
    for name in ["stopped", "once", "on-failure"] {
        assert_eq!(inspect(&world, name)["State"]["Status"], "exited", "{name}");
    }
    assert!(after_reboot(&world, &words).code(0).stdout.is_empty(), "a second boot starts nothing twice");
}

/// A xorshift generator: the moments of the kills differ between rounds, and are the same in each run of the test.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % below.as_micros() as u64)
    }
}

#[test]
fn a_supervisor_that_is_killed_at_any_moment_loses_no_disk() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sh", "-c", COUNTS_STARTS]);
    until_starts(&world, "web", 1);
    world.mimeo(["exec", "web", "sh", "-c", "echo kept > /kept; sync"]).ok();
    let mut moments = Moments(0x9e37_79b9_7f4a_7c15);
    let mut killed = Vec::new();
    for round in 0..100 {
        let verb = ["start", "stop", "restart"][round % 3];
        let mut command = world.spawn([verb, "web"]);
        std::thread::sleep(moments.next(Duration::from_millis(350)));
        // The supervisor is the process that holds the machine's lock; the record may name an earlier one.
        for (pid, line) in world.processes() {
            if line.contains("mimeo supervisor") {
                kill(pid);
                killed.push(u32::try_from(pid).expect("a process id"));
            }
        }
        command.wait().expect("the command ends");
    }
    // One that is dying holds the machine's lock, and its machine seems to run.
    until("the last ones have ended", || (!killed.iter().copied().any(is_alive)).then_some(()));
    world.mimeo(["start", "web"]).code(0);
    world.mimeo(["exec", "web", "cat", "/kept"]).ok().printed("kept\n");
    let supervisors =
        world.processes().into_iter().filter(|(_, line)| line.contains("mimeo supervisor")).count();
    assert_eq!(supervisors, 1, "{:#?}", world.processes());
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
}

/// Kills a process that may have ended already.
fn kill(pid: i32) {
    let pid = pid.to_string();
    let killed = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
    killed.expect("kill starts");
}
