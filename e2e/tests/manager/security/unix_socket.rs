//! The Unix socket, and the home's lock.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use e2e::{Manager, User, World};

fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connected");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: mimeo\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_owner_of_the_unix_socket_is_an_administrator() {
    let world = World::bare(User::Ordinary);
    let path = world.run_dir().join("manager.sock");
    let arguments = ["--socket", path.to_str().expect("text")];
    let manager = Manager::start(&world, &arguments);
    let metadata = std::fs::metadata(&path).expect("a file");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "only its owner may connect");
    let who = get(&path, "/v1/whoami");
    assert!(who.starts_with("HTTP/1.1 200") && who.contains("\"user\":\"local\""), "{who}");
    assert!(get(&path, "/v1/users").contains("\"admin\""));
    // A file that a killed manager has left is replaced; a file that is no socket is not.
    manager.kill();
    assert!(path.exists());
    let manager = Manager::start(&world, &arguments);
    assert!(get(&path, "/v1/users").starts_with("HTTP/1.1 200"));
    manager.end();
    assert!(!path.exists(), "the socket is removed");
    let file = world.file("precious", "data");
    let refused = world.mimeo(["manager", "--listen", "none", "--socket", file.to_str().expect("text")]);
    refused.code(125).stderr_contains("it is not a socket");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "data");
}

#[test]
fn a_home_has_one_manager() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let second = world.mimeo(["manager", "--listen", "127.0.0.1:0"]);
    second.code(125).stderr_contains("another manager uses");
    manager.admin().get("/v1").ok(200);
    manager.kill();
    // The kernel has released the lock.
    let manager = Manager::start(&world, &[]);
    manager.end();
}
