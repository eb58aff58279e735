//! A manager's limit of open files.

use std::fs;
use std::net::TcpStream;

use e2e::{Manager, User, World};
use serde_json::json;

/// The soft limit that the manager is started with, and the hard limit.
const LIMITS: (&str, &str) = ("200", "2000");
/// More than the soft limit.
const CONNECTIONS: usize = 400;

/// A process's soft and hard limit.
fn limits(pid: u64) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Linux");
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("a limit"), words.next().expect("a limit"))
}

fn children(pid: u64) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the process runs");
    text.split_whitespace().map(|pid| pid.parse().expect("a PID")).collect()
}

#[test]
fn a_manager_raises_its_own_limit_only() {
    let world = World::new(User::Ordinary);
    let mimeo = world.command(["manager"]).get_program().to_owned();
    let mut command = world.program("prlimit");
    command.arg(format!("--nofile={}:{}", LIMITS.0, LIMITS.1)).arg(mimeo);
    command.args(["manager", "--listen", "127.0.0.1:0"]);
    let manager = Manager::spawn(command);
    let client = manager.admin();
    let (soft, hard) = (LIMITS.0.to_owned(), LIMITS.1.to_owned());
    assert_eq!(limits(manager.pid().into()), (hard.clone(), hard.clone()));
    let address = manager.url.strip_prefix("http://").expect("a URL");
    let connections: Vec<_> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).expect("connected")).collect();
    let machine =
        client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    assert_eq!(client.sh("web", "echo hello")["stdout"], "hello\n");
    drop(connections);
    let supervisor = machine["supervisor_pid"].as_u64().expect("a PID");
    let vmm = children(supervisor);
    assert!(!vmm.is_empty(), "the supervisor has started a VMM");
    for pid in vmm.into_iter().chain([supervisor]) {
        assert_eq!(limits(pid), (soft.clone(), hard.clone()), "as without the manager");
    }
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}
