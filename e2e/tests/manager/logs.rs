//! What containers print, and the consoles of guests.

use std::io::{Read, Write};
use std::net::TcpStream;

use e2e::{Answer, Client, Manager, Socket, User, World, as_root_and_user, until};
use serde_json::{Value, json};

/// The entries of an answer.
fn entries(answer: Answer) -> Vec<Value> {
    let answer = answer.ok(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn texts(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["text"].as_str().expect("text")).collect()
}

fn create(world: &World, client: &Client, script: &str) {
    let request = json!({ "name": "m", "image": world.busybox(), "command": ["sh", "-c", script] });
    drop(client.create(&request));
}

as_root_and_user!(logs_are_read_followed_and_resumed, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    create(
        world,
        &client,
        "echo one; echo two >&2; printf 'a\\377b\\n'; printf part; while [ ! -e /go ]; do sleep 0.1; done; echo ial; echo last",
    );
    let logs = &|query: &str| client.get(&format!("/v1/vms/m/logs?{query}"));
    let first = until("the output is logged", || {
        let entries = entries(logs(""));
        (entries.len() == 4).then_some(entries)
    });
    assert_eq!((&first[0]["text"], &first[0]["stream"]), (&json!("one"), &json!("stdout")));
    assert_eq!(first[2]["base64"], "Yf9i", "{first:?}");
    assert_eq!((&first[3]["text"], &first[3]["partial"]), (&json!("part"), &json!(true)));
    assert_eq!(texts(&entries(logs("stdout=false"))), ["two"]);
    assert_eq!(entries(logs("tail=1")), first[3..]);
    let time = |entry: &Value| entry["time"].as_str().expect("a time").replace('+', "%2B");
    // Several lines may have the same time: they were printed at once.
    let is_since = |entry: &&Value| entry["time"].as_str() >= first[3]["time"].as_str();
    let since: Vec<_> = first.iter().filter(is_since).cloned().collect();
    assert_eq!(entries(logs(&format!("since={}", time(&first[3])))), since);
    assert_eq!(entries(logs("until=1")), [Value::Null; 0]);
    let offset = |entry: &Value| entry["offset"].as_str().expect("an offset").to_owned();
    assert_eq!(entries(logs(&format!("offset={}", offset(&first[1])))), first[2..]);
    let raw = client.send("GET", "/v1/vms/m/logs", &[("accept", "text/plain")], b"").ok(200);
    assert_eq!(raw.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(raw.body.iter().filter(|byte| **byte == b'\n').count(), 3);
    let resumed = std::thread::scope(|scope| {
        let follow = format!("follow=true&offset={}", offset(&first[3]));
        let following = scope.spawn(move || entries(logs(&follow)));
        drop(client.sh("m", "touch /go"));
        following.join().expect("followed")
    });
    assert_eq!(texts(&resumed), ["ial", "last"]);
    // The log of a machine that has exited can be read, and its end is known.
    assert_eq!(texts(&entries(logs("follow=true&tail=1"))), ["last"]);
    for bad in ["tail=x", "tail=1000001", "since=yesterday", "offset=1", "follow=yes", "x=1"] {
        logs(bad).problem(400, "invalid-request");
    }
    let id = client.get("/v1/vms/m").json()["item"]["id"].as_str().expect("an id").to_owned();
    client.delete("/v1/vms/m?wait=60").ok(200);
    client.get(&format!("/v1/vms/{id}/logs")).problem(410, "machine-deleted");
});

#[test]
fn following_ends_when_the_machine_is_removed() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    create(&world, &client, "echo hello; sleep 1000");
    let mut following =
        TcpStream::connect(client.url().strip_prefix("http://").expect("HTTP")).expect("connected");
    let token = client.token();
    write!(
        following,
        "GET /v1/vms/m/logs?follow=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let mut read = |answer: &mut Vec<u8>| {
        let count = following.read(&mut buffer).expect("read");
        answer.extend_from_slice(&buffer[..count]);
        count
    };
    while !String::from_utf8_lossy(&answer).contains("hello") {
        assert!(read(&mut answer) > 0, "the answer ended too early");
    }
    client.delete("/v1/vms/m?wait=60").ok(200);
    while read(&mut answer) > 0 {}
    assert!(answer.ends_with(b"\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_log_that_is_not_kept_is_refused() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request = json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"], "log": { "driver": "none" } });
    drop(client.create(&request));
    client.get("/v1/vms/m/logs").problem(409, "logs-disabled");
}

as_root_and_user!(a_console_is_read_and_resumed, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    create(world, &client, "sleep 1000");
    let console = |socket: &Socket| String::from_utf8_lossy(&socket.console).into_owned();
    let mut socket = Socket::open(&client, "/v1/vms/m/console");
    let mut offset = Value::Null;
    while !console(&socket).contains("configured as") {
        let message = socket.console_message();
        assert_eq!(message["type"], "offset", "{message}");
        offset = message["offset"].clone();
    }
    socket.text("x");
    while socket.console_message()["problem"]["code"] != "console-read-only" {}
    assert_eq!(socket.closed(), 4405);
    let offset = offset.as_str().expect("text");
    let mut resumed = Socket::open(&client, &format!("/v1/vms/m/console?offset={offset}"));
    client.post("/v1/vms/m/stop?wait=60", &json!({})).ok(200);
    while resumed.console_message()["type"] != "end" {}
    assert_eq!(resumed.closed(), 1000);
    let rest = console(&resumed);
    assert!(rest.contains("shutting down") && !rest.contains("configured as"), "{rest}");
    client.get("/v1/vms/m/console").problem(426, "upgrade-required");
});
