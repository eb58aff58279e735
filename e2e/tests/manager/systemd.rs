//! The manager as a service of systemd.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use e2e::{Manager, User, World};

/// Listens on both kinds of sockets, passes them on as systemd does, and becomes the program that is given.
const ACTIVATE: &str = "
import os, socket, sys
tcp = socket.create_server(('127.0.0.1', 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
first = os.dup(tcp.fileno()), os.dup(unix.fileno())
for number, fd in enumerate(first):
    os.dup2(fd, 100 + number)
for number in range(len(first)):
    os.dup2(100 + number, 3 + number)
os.closerange(5, 200)
os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";

/// A command that runs `mimeo manager` with sockets that are passed.
fn activated(world: &World, socket: &str) -> Command {
    let mimeo = world.command(["manager"]).get_program().to_owned();
    let mut command = world.program("python3");
    command.args(["-c", ACTIVATE, socket]).arg(mimeo).arg("manager");
    command
}

#[test]
fn sockets_are_passed_and_readiness_is_told() {
    let world = World::bare(User::Ordinary);
    let socket = world.files().join("manager.sock");
    let notifications = world.files().join("notify");
    let receiver = UnixDatagram::bind(&notifications).expect("bound");
    receiver.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    world.chown(&world.files());
    let receive = || {
        let mut buffer = [0; 100];
        let length = receiver.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = activated(&world, socket.to_str().expect("text"));
    command.env("NOTIFY_SOCKET", &notifications);
    let manager = Manager::spawn(command);
    assert_eq!(receive(), "READY=1");
    manager.admin().get("/v1/whoami").ok(200);
    let mut stream = UnixStream::connect(&socket).expect("connected");
    stream.write_all(b"GET /v1/users HTTP/1.1\r\nhost: mimeo\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    manager.end();
    assert_eq!(receive(), "STOPPING=1");
    assert!(socket.exists(), "the file is systemd's");
}

#[test]
fn units_are_generated() {
    let world = World::bare(User::Ordinary);
    let service = world.mimeo(["generate", "manager-service"]).ok();
    for line in ["Type=notify", "KillMode=process", "ExecReload=/bin/kill -HUP $MAINPID"] {
        assert!(service.text().lines().any(|one| one == line), "{line}: {}", service.text());
    }
    let socket = world.mimeo(["generate", "manager-socket"]).ok();
    let path = format!("ListenStream={}", world.run_dir().join("manager.sock").display());
    for line in ["ListenStream=127.0.0.1:18080", "SocketMode=0600", path.as_str()] {
        assert!(socket.text().lines().any(|one| one == line), "{line}: {}", socket.text());
    }
}
