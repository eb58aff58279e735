//! The program is replaced while a manager and machines run.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use e2e::{Client, Manager, User, World, built_program, until};
use serde_json::json;

/// A client that is connected to a process in a machine without the manager.
struct Direct {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Direct {
    fn start(world: &World, program: &Path, machine: &str) -> Self {
        let mut command = world.program(program);
        command.args(["exec", "-i", machine, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("mimeo starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// The process returns what it receives.
    fn assert_connected(&mut self) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(b"hello\n").expect("the process reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the process writes");
        assert_eq!(line, "hello\n");
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.child.wait().expect("ended").code(), Some(0));
    }
}

/// Installs another build of the program, as package managers do: the old file stays open in those who use it.
fn install(world: &World) -> PathBuf {
    let (new, installed) = (world.files().join("mimeo.new"), world.files().join("mimeo"));
    fs::copy(built_program("mimeo"), &new).expect("copied");
    let mut file = OpenOptions::new().append(true).open(&new).expect("opened");
    write!(file, "{:?}", std::time::Instant::now()).expect("written");
    drop(file);
    world.chown(&new);
    fs::rename(&new, &installed).expect("renamed");
    installed
}

fn start(world: &World, program: &Path) -> Manager {
    let mut command = world.program(program);
    command.args(["manager", "--listen", "127.0.0.1:0"]);
    Manager::spawn(command)
}

/// Replaces the program, ends the manager in the way of the test, and starts the new program.
fn upgrade(world: &World, manager: Manager, token: &str, end: fn(Manager)) -> (Manager, Client) {
    let client = manager.client(token);
    let program = install(world);
    // The manager, whose file was removed, can still start machines. The last one is being created when it ends.
    let request = json!({ "image": world.busybox(), "command": ["sleep", "1000"] });
    let named = |name: &str| {
        let mut request = request.clone();
        request["name"] = name.into();
        request
    };
    let _machine = client.create(&named("late"));
    client.post("/v1/vms", &named("begun")).ok(202);
    end(manager);
    let manager = start(world, &program);
    assert_eq!(manager.token, None, "the records are the same");
    let client = manager.client(token);
    client.get("/v1/vms/begun/wait?state=running&timeout=60").ok(200);
    (manager, client)
}

fn assert_upgraded(world: &World, end: fn(Manager)) {
    let program = install(world);
    let manager = start(world, &program);
    let client = manager.admin();
    let request = json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] });
    let before = client.create(&request);
    let mut direct = Direct::start(world, &program, "web");
    direct.assert_connected();
    let token = client.token().to_owned();
    let (manager, client) = upgrade(world, manager, &token, end);
    direct.assert_connected();
    let after = client.get("/v1/vms/web").ok(200).json()["item"].clone();
    for field in ["id", "state", "supervisor_pid", "started_at", "vm_generation"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    for name in ["web", "late", "begun"] {
        assert_eq!(client.sh(name, "echo hello")["stdout"], "hello\n", "{name}");
        world.mimeo(["exec", name, "echo", "hello"]).ok().printed("hello\n");
    }
    // The new program stops and starts what the old one has made.
    client.post("/v1/vms/late/restart?timeout=0&wait=60", &json!({})).ok(200);
    assert_eq!(client.sh("late", "echo hello")["stdout"], "hello\n");
    direct.assert_connected();
    direct.end();
    for name in ["web", "late", "begun"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    until("nothing is left", || (client.get("/v1/vms").ok(200).json()["items"] == json!([])).then_some(()));
    manager.end();
    world.assert_empty();
}

#[test]
fn a_manager_that_is_ended_is_upgraded_with_running_machines() {
    assert_upgraded(&World::new(User::Ordinary), Manager::end);
}

#[test]
fn a_manager_that_is_killed_is_upgraded_with_running_machines() {
    assert_upgraded(&World::new(User::Root), Manager::kill);
}
