//! The same command line on a manager's host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::{Manager, Outcome, User, World, as_root_and_user, signal, until};
use rustix::process::Signal;
use serde_json::Value;

/// The command line on a manager's host.
struct Remote<'a> {
    world: &'a World,
    options: Vec<String>,
}

impl<'a> Remote<'a> {
    /// Over the manager's unix socket.
    fn unix(world: &'a World, socket: &str) -> Self {
        Self { world, options: vec![format!("--host=unix://{socket}")] }
    }

    /// Over TCP, with a token.
    fn web(world: &'a World, manager: &Manager, token: &str) -> Self {
        Self { world, options: vec![format!("--host={}", manager.url), format!("--token={token}")] }
    }

    fn args<'b>(&'b self, args: &[&'b str]) -> Vec<&'b str> {
        self.options.iter().map(String::as_str).chain(args.iter().copied()).collect()
    }

    fn mimeo(&self, args: &[&str]) -> Outcome {
        self.world.mimeo(self.args(args))
    }
}

/// A manager with a unix socket, and its path.
fn manager(world: &World) -> (Manager, String) {
    let socket = world.run_dir().join("manager.sock").display().to_string();
    (Manager::start(world, &["--socket", &socket]), socket)
}

as_root_and_user!(a_remote_machine_runs_as_a_local_one, |world| {
    let (manager, socket) = manager(world);
    let remote = Remote::unix(world, &socket);
    let image = world.busybox();
    let script = "echo out; echo err >&2; exit 5";
    let outcome = remote.mimeo(&["run", "--rm", &image, "sh", "-c", script]);
    assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (5, "out\n", "err\n"), "{outcome:#?}");
    let args = remote.args(&["run", "--rm", "-i", &image, "cat"]);
    world.mimeo_with_input(args, b"in").ok().printed("in");
    let outcome = world.mimeo_on_terminal(&remote.args(&["run", "--rm", "-it", &image, "stty", "size"]));
    assert_eq!(outcome.stdout.trim(), "33 99", "{outcome:#?}");
    remote.mimeo(&["run", "--rm", &image, "nosuch"]).code(127).stderr_contains("nosuch");
    let child = world.spawn(remote.args(&[
        "run",
        "--rm",
        "--name",
        "loop",
        &image,
        "sh",
        "-c",
        "trap 'exit 8' TERM; echo ready; while :; do sleep 0.1; done",
    ]));
    until("the container is ready", || {
        remote.mimeo(&["logs", "loop"]).stdout.contains("ready").then_some(())
    });
    signal(&child, Signal::TERM);
    Outcome::wait_for(child).code(8);
    manager.end();
    world.assert_empty();
});

/// What was printed, without the lines that tell an age: a second may pass between two commands.
fn ageless(outcome: &Outcome) -> Vec<&str> {
    let tells_age = |line: &&str| ["\"CreatedAt\"", "\"Status\""].iter().any(|key| line.contains(key));
    outcome.stdout.lines().filter(|line| !tells_age(line)).collect()
}

as_root_and_user!(remote_machines_are_shown_as_local_ones, |world| {
    let (manager, socket) = manager(world);
    let remote = Remote::unix(world, &socket);
    let image = world.busybox();
    let id = remote.mimeo(&["run", "-d", "--name", "web", "-l", "a=b", &image, "sleep", "1000"]).ok();
    remote.mimeo(&["create", "--name", "made", &image, "sh", "-c", "echo from made; exit 3"]).ok();
    for args in [
        &["ps", "-a", "--format", "json"][..],
        &["ps", "-aq", "--filter", "label=a"],
        &["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.Mounts}}"],
        &["inspect", "web", "made"],
        &["inspect", "--format", "{{.Config.Image}} {{.HostConfig.Memory}}", "web"],
        &["port", "web"],
    ] {
        let (here, there) = (world.mimeo(args), remote.mimeo(args));
        assert_eq!((here.code, ageless(&here)), (there.code, ageless(&there)), "{args:?}");
        assert_eq!(here.code, 0, "{here:#?}");
    }
    remote.mimeo(&["exec", "web", "sh", "-c", "echo err >&2; exit 7"]).code(7).stderr_contains("err");
    remote.mimeo(&["exec", "web", "nosuch"]).code(127);
    remote.mimeo(&["exec", "nosuch", "true"]).code(125).stderr_contains("no such container");
    remote.mimeo(&["start", "-a", "made"]).code(3).printed("from made\n");
    let events = manager.admin().get("/v1/events?limit=1000").ok(200).json()["items"].clone();
    let is_start =
        |event: &Value| event["kind"] == "machine.start_requested" && event["data"]["name"] == "made";
    let starts: Vec<_> = events.as_array().expect("a list").iter().filter(|event| is_start(event)).collect();
    assert!(starts.len() == 1 && starts[0]["actor"] != "manager", "{starts:?}");
    remote.mimeo(&["logs", "made"]).ok().printed("from made\n");
    remote.mimeo(&["logs", "-f", "--tail", "1", "made"]).ok().printed("from made\n");
    remote.mimeo(&["wait", "made"]).ok().printed("3\n");
    remote.mimeo(&["rm", "web"]).code(2).stderr_contains("container state improper");
    remote.mimeo(&["pause", "web"]).ok();
    remote.mimeo(&["unpause", &id.text()[..12]]).ok();
    remote.mimeo(&["stop", "-t", "0", "web"]).ok();
    remote.mimeo(&["rm", "web", "made"]).ok().printed("web\nmade\n");
    remote.mimeo(&["rm", "web"]).code(1);
    manager.end();
    world.assert_empty();
});

as_root_and_user!(files_are_copied_to_and_from_a_remote_machine, |world| {
    let (manager, socket) = manager(world);
    let remote = Remote::unix(world, &socket);
    let image = world.busybox();
    remote.mimeo(&["run", "-d", "--name", "web", &image, "sleep", "1000"]).ok();
    let site = world.files().join("site/sub");
    fs::create_dir_all(&site).expect("made");
    fs::write(site.join("page"), "text").expect("written");
    world.chown(&world.files().join("site"));
    remote.mimeo(&["cp", "site", "web:/srv"]).ok();
    remote.mimeo(&["exec", "web", "cat", "/srv/sub/page"]).ok().printed("text");
    remote.mimeo(&["cp", "web:/srv", "back"]).ok();
    assert_eq!(fs::read_to_string(world.files().join("back/sub/page")).expect("copied"), "text");
    remote.mimeo(&["cp", "web:/srv/sub/page", "file"]).ok();
    assert_eq!(fs::read_to_string(world.files().join("file")).expect("copied"), "text");
    let archive = world.finish(remote.world.command(remote.args(&["cp", "web:/srv", "-"])));
    assert!(archive.stdout.contains("srv/sub/page"), "the archive has the directory's name");
    remote.mimeo(&["cp", "web:/nosuch", "x"]).code(125).stderr_contains("could not be found");
    remote.mimeo(&["rm", "-f", "web"]).ok();
    manager.end();
    world.assert_empty();
});

#[test]
fn contexts_name_managers() {
    let world = World::new(User::Root);
    let (manager, _) = manager(&world);
    let token = manager.token.clone().expect("a token");
    world.mimeo(["context", "use", "lab"]).code(125).stderr_contains("no context");
    world.mimeo(["context", "add", "local", &manager.url]).code(125);
    world.mimeo(["context", "add", "lab", "lab:1"]).code(125).stderr_contains("scheme");
    world.mimeo_with_input(["context", "add", "lab", &manager.url, "--token-stdin"], token.as_bytes()).ok();
    let file = world.files().join(".config/mimeo/config.toml");
    assert_eq!(fs::metadata(&file).expect("stored").permissions().mode() & 0o777, 0o600);
    assert!(!world.mimeo(["context", "show", "lab"]).ok().stdout.contains(&token));
    world.mimeo(["--context", "lab", "ps", "-q"]).ok().printed("");
    world.mimeo(["context", "use", "lab"]).ok();
    world
        .mimeo(["commit", "web", "image"])
        .code(125)
        .stderr_contains("cannot commit a machine on a remote host");
    world.mimeo(["--context", "local", "system", "df"]).ok();
    world.mimeo(["context", "rm", "lab"]).ok();
    world.mimeo(["context", "ls", "-q"]).ok().printed("local\n");
    fs::write(&file, "current = 1").expect("written");
    world.mimeo(["ps"]).code(125).stderr_contains("config.toml");
    fs::remove_file(&file).expect("removed");
    manager.end();
    world.assert_empty();
}

#[test]
fn what_a_remote_host_cannot_do_is_refused() {
    let world = World::new(User::Root);
    let (manager, _) = manager(&world);
    let token = manager.token.clone().expect("a token");
    let remote = Remote::web(&world, &manager, &token);
    let image = world.busybox();
    remote.mimeo(&["setup"]).code(125).stderr_contains("on a remote host");
    remote.mimeo(&["run", &image]).code(125).stderr_contains("image of this host's files");
    remote.mimeo(&["run", "-v", "/:/host", "busybox"]).code(125).stderr_contains("directory of this host");
    remote.mimeo(&["run", "--pidfile", "p", "busybox"]).code(125).stderr_contains("--pidfile");
    remote.mimeo(&["stop", "--pid", "1"]).code(125).stderr_contains("by a process id");
    Remote::web(&world, &manager, "mimeo_wrong").mimeo(&["ps"]).code(125);
    world.mimeo(["--host", "http://127.0.0.1:1", "ps"]).code(125).stderr_contains("cannot reach the manager");
    world.mimeo(["--token", "x", "ps"]).code(125).stderr_contains("--host");
    world.mimeo(["--host", "nonsense", "ps"]).code(125);
    manager.end();
    world.assert_empty();
}
