//! Limits: requests of each user, sizes, and clients that are slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use e2e::{Client, Manager, User, World};
use serde_json::json;

use super::new_user;

/// Requests that are surely too many.
const MANY: usize = 200;

#[test]
fn each_user_has_a_limit() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &["--rate-limit", "5"]);
    let admin = manager.admin();
    let bob = new_user(&admin, "bob", "user");
    let refused = (0..MANY).map(|_| bob.get("/v1/whoami")).find(|answer| answer.status != 200);
    let refused = refused.expect("a refusal");
    refused.problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("should-retry"), Some("true"));
    // Others are not concerned.
    admin.get("/v1/whoami").ok(200);
    manager.end();
}

#[test]
fn wrong_tokens_are_limited_and_right_ones_are_not() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let wrong = Client::new(&manager.url, "mimeo_wrong");
    let refused = (0..MANY).map(|_| wrong.get("/v1/whoami")).find(|answer| answer.status != 401);
    refused.expect("a refusal").problem(429, "rate-limited");
    manager.admin().get("/v1/whoami").ok(200);
    manager.end();
}

/// Sends bytes and returns everything that comes until the connection is closed.
fn raw(manager: &Manager, bytes: &[u8], is_end: bool) -> String {
    let address = manager.url.strip_prefix("http://").expect("a URL");
    let mut socket = TcpStream::connect(address).expect("connected");
    // The manager may answer and close before it has read everything.
    socket.write_all(bytes).ok();
    if is_end {
        socket.shutdown(Shutdown::Write).expect("shut down");
    }
    let mut answer = Vec::new();
    // What was not read when it was closed resets the connection.
    socket.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(manager: &Manager, more: &str) -> String {
    let token = manager.token.as_deref().expect("a token");
    format!(
        "POST /v1/users HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}"
    )
}

#[test]
fn slow_and_broken_clients_are_given_up() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &["--client-timeout", "1"]);
    // Nothing; half of the headers; half of the body; a chunked body without an end.
    assert_eq!(raw(&manager, b"", false), "");
    raw(&manager, head(&manager, "x-half: ").as_bytes(), false);
    let half = raw(&manager, head(&manager, "content-length: 100\r\n\r\n{").as_bytes(), false);
    assert!(half.starts_with("HTTP/1.1 408") && half.contains("body-timeout"), "{half}");
    let chunked =
        raw(&manager, head(&manager, "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n").as_bytes(), false);
    assert!(chunked.starts_with("HTTP/1.1 408"), "{chunked}");
    // A client that is quick enough gets its answer.
    let body = json!({ "name": "bob", "role": "user" }).to_string();
    let whole = format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let quick = raw(&manager, head(&manager, &whole).as_bytes(), false);
    assert!(quick.starts_with("HTTP/1.1 201"), "{quick}");
    // One that has closed in the middle of its body.
    let closed = raw(&manager, head(&manager, "content-length: 100\r\n\r\n{").as_bytes(), true);
    assert!(closed.is_empty() || closed.starts_with("HTTP/1.1 400"), "{closed}");
    manager.end();
}

#[test]
fn what_is_too_large_or_makes_no_sense_is_refused() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let large = vec![b' '; (4 << 20) + 1];
    let headers = [("content-type", "application/json")];
    let with_key = [("content-type", "application/json"), ("idempotency-key", "k")];
    admin.send("POST", "/v1/users", &headers, &large).problem(413, "body-too-large");
    admin.send("POST", "/v1/users", &with_key, &large).problem(413, "body-too-large");
    admin.send("POST", "/v1/users", &headers, b"{").problem(400, "invalid-body");
    // All fields are optional: serde would take a list for them.
    for (method, path) in [("POST", "/v1/tokens"), ("PATCH", "/v1/users/admin"), ("POST", "/v1/vms")] {
        for body in ["[]", "null", "\"x\""] {
            admin.send(method, path, &headers, body.as_bytes()).problem(400, "invalid-body");
        }
    }
    admin.send("POST", "/v1/users", &headers, b"\xff\xfe").problem(400, "invalid-body");
    admin
        .send("POST", "/v1/users", &[("content-type", "text/xml")], b"<a/>")
        .problem(415, "unsupported-media-type");
    let deep = "[".repeat(100_000);
    admin.send("POST", "/v1/users", &headers, deep.as_bytes()).problem(400, "invalid-body");
    for length in [40_000, 1_000_000] {
        let long = format!("x-long: {}\r\nconnection: close\r\n\r\n", "x".repeat(length));
        let refused = raw(&manager, head(&manager, &long).as_bytes(), false);
        assert!(refused.starts_with("HTTP/1.1 431") || length > 100_000, "{refused}");
        assert!(!refused.contains("invalid-body"), "{refused}");
    }
    for garbage in ["\r\n\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{0}\u{0}\u{0}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = raw(&manager, garbage.as_bytes(), true);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{garbage:?}: {answer}");
    }
    admin.send("BREW", "/v1/users", &[], b"").problem(405, "method-not-allowed");
    admin.get("/v1/vms/..%2f..%2fetc").problem(404, "not-found");
    admin.get("/v1/vms?limit=1&limit=2").problem(400, "invalid-request");
    admin.get("/v1/nothing").problem(404, "no-such-route");
    manager.end();
}

#[test]
fn pages_of_other_sites_are_refused() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &["--allowed-host", "mimeo.example"]);
    let ask = |more: &str| {
        let bytes = format!("GET /health HTTP/1.1\r\nconnection: close\r\n{more}\r\n");
        let answer = raw(&manager, bytes.as_bytes(), false);
        answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ask(""), "400");
    assert_eq!(ask("host: evil.example\r\n"), "421");
    assert_eq!(ask("host: mimeo.example\r\n"), "200");
    assert_eq!(ask("host: localhost\r\norigin: http://evil.example\r\n"), "403");
    assert_eq!(ask("host: localhost\r\norigin: http://localhost\r\n"), "200");
    assert_eq!(ask("host: localhost\r\norigin: null\r\n"), "403");
    manager.end();
}
