//! Tokens that are removed or expire, and users who are changed, while their streams are open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use e2e::{Client, Manager, Socket, on_both_databases, until};
use serde_json::{Value, json};

use super::{client_with, new_user};

/// A socket whose session has begun.
fn exec(client: &Client) -> Socket {
    let mut socket = Socket::open(client, "/v1/containers/m/exec");
    socket.json(&json!({ "command": ["sleep", "1000"] }));
    assert_eq!(socket.message()["type"], "started");
    socket
}

/// Asserts that the manager closes a socket with this problem.
fn assert_refused(socket: &mut Socket, status: u16, code: &str) {
    let message = loop {
        let message = socket.console_message();
        if message["type"] != "offset" {
            break message;
        }
    };
    let problem = &message["problem"];
    assert_eq!((&message["type"], &problem["status"]), (&json!("error"), &json!(status)), "{message}");
    assert_eq!(problem["code"], code, "{message}");
    assert_eq!(socket.closed(), 4000 + status);
}

/// A request whose answer has begun, or whose body has.
fn request(client: &Client, head: &str, body: &str) -> TcpStream {
    let mut socket =
        TcpStream::connect(client.url().strip_prefix("http://").expect("a URL")).expect("connected");
    let token = client.token();
    write!(socket, "{head} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{body}")
        .expect("sent");
    socket
}

fn rest(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    socket.read_to_end(&mut text).expect("read");
    String::from_utf8_lossy(&text).into_owned()
}

fn token_of(client: &Client) -> String {
    let who = client.get("/v1/whoami").ok(200).json();
    who["item"]["token"].as_str().expect("an id").to_owned()
}

/// Everything that a client can leave open ends with its token.
fn a_removed_token(admin: &Client, client: &Client) {
    let mut exec = exec(client);
    let mut console = Socket::open(client, "/v1/vms/m/console");
    assert_eq!(console.console_message()["type"], "offset");
    let mut logs = request(client, "GET /v1/vms/m/logs?follow=true", "connection: close\r\n\r\n");
    let mut begin = [0; 15];
    logs.read_exact(&mut begin).expect("the status");
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    let put = request(
        client,
        "PUT /v1/vms/m/files?path=/half",
        "content-length: 9\r\nconnection: close\r\n\r\nhalf",
    );
    let waiting = client.clone();
    let waiting = thread::spawn(move || waiting.get("/v1/vms/m/wait?state=exited&timeout=300"));
    until("the upload has begun", || {
        let events = admin.get("/v1/events?kind=machine.files").ok(200).json();
        (events["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    admin.delete(&format!("/v1/tokens/{}", token_of(client))).ok(200);
    assert_refused(&mut exec, 401, "unauthenticated");
    assert_refused(&mut console, 401, "unauthenticated");
    waiting.join().expect("an answer").problem(401, "unauthenticated");
    let logs = rest(logs);
    assert!(!logs.ends_with("\r\n0\r\n\r\n"), "the log breaks off: {logs}");
    let put = rest(put);
    assert!(put.starts_with("HTTP/1.1 401"), "{put}");
    assert_ne!(admin.sh("m", "test -e /half")["exit_code"], 0, "nothing was written");
}

/// A change whose sender waits for the end of its token before it sends the body is not made.
fn a_body_that_is_held_back(admin: &Client, client: &Client) {
    let body = r#"{ "name": "more" }"#;
    let length = body.len();
    let headers = "content-type: application/json\r\nexpect: 100-continue\r\nconnection: close";
    let headers = format!("{headers}\r\ncontent-length: {length}\r\n\r\n");
    let mut socket = request(client, "POST /v1/tokens", &headers);
    let mut begin = [0; 25];
    socket.read_exact(&mut begin).expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 100 Continue\r\n\r\n", "the token is accepted");
    admin.delete(&format!("/v1/tokens/{}", token_of(client))).ok(200);
    socket.write_all(body.as_bytes()).expect("sent");
    let answer = rest(socket);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

on_both_databases!(what_is_open_ends_with_the_rights, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "admin");
    let script = "echo hello; sleep 1000";
    let machine = json!({ "name": "m", "image": world.busybox(), "command": ["sh", "-c", script] });
    drop(alice.create(&machine));
    let of_alice = |more: Value| {
        let mut request = json!({ "user": "alice" });
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        client_with(&admin, &request)
    };
    a_removed_token(&admin, &of_alice(json!({})));
    a_body_that_is_held_back(&admin, &of_alice(json!({})));
    let mut expiring = exec(&of_alice(json!({ "ttl_seconds": 10 })));
    let (mut of_role, mut of_disabled) = (exec(&alice), exec(&admin));
    assert_refused(&mut expiring, 401, "token-expired");
    admin.json("PATCH", "/v1/users/alice", &json!({ "role": "user" })).ok(200);
    assert_refused(&mut of_role, 403, "role-changed");
    // A change that ends its sender's own rights is answered.
    let other = new_user(&admin, "other", "admin");
    admin.json("PATCH", "/v1/users/admin", &json!({ "disabled": true })).ok(200);
    assert_refused(&mut of_disabled, 401, "user-disabled");
    other.delete("/v1/vms/m?wait=60").ok(200);
    other.delete(&format!("/v1/tokens/{}", token_of(&other))).ok(200);
    other.get("/v1/whoami").problem(401, "unauthenticated");
    manager.end();
    world.assert_empty();
});
