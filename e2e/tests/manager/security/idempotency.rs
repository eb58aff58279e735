//! `Idempotency-Key`.

use std::io::Write;
use std::net::TcpStream;

use e2e::{Answer, Client, Manager, User, World, on_both_databases, until};
use serde_json::{Value, json};

use super::new_user;

fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send("POST", path, &headers, body.to_string().as_bytes())
}

on_both_databases!(a_repeated_post_gets_the_first_answer, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = json!({ "name": "alice", "role": "user" });
    let first = post(&admin, "/v1/users", "k1", &alice).ok(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = post(&admin, "/v1/users", "k1", &alice).ok(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!((&again.body, again.header("location")), (&first.body, Some("/v1/users/alice")));
    assert_eq!(again.header("content-type"), Some("application/json"));
    // Without the key it is another request.
    admin.post("/v1/users", &alice).problem(409, "name-taken");
    // The key belongs to that request, and to that user.
    let bob = json!({ "name": "bob", "role": "admin" });
    post(&admin, "/v1/users", "k1", &bob).problem(422, "idempotency-mismatch");
    post(&admin, "/v1/users?x=1", "k1", &alice).problem(422, "idempotency-mismatch");
    post(&admin, "/v1/tokens", "k1", &alice).problem(422, "idempotency-mismatch");
    let carol = new_user(&admin, "carol", "admin");
    post(&carol, "/v1/users", "k1", &bob).ok(201);
    // A refusal is an answer, too; its problem has the id of the new request.
    let refused = post(&admin, "/v1/users", "k2", &alice);
    refused.problem(409, "name-taken");
    admin.delete("/v1/users/alice").ok(200);
    let again = post(&admin, "/v1/users", "k2", &alice);
    again.problem(409, "name-taken");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_ne!(again.header("x-request-id"), refused.header("x-request-id"));
    for key in ["", &"k".repeat(256), "ä"] {
        post(&admin, "/v1/users", key, &alice).problem(400, "invalid-idempotency-key");
    }
    // A secret is not kept, but the token is made once.
    post(&admin, "/v1/tokens", "k3", &json!({ "name": "t" })).ok(201);
    post(&admin, "/v1/tokens", "k3", &json!({ "name": "t" })).problem(409, "idempotency-answer-not-kept");
    // The answers outlive the manager.
    let token = admin.token().to_owned();
    manager.kill();
    let manager = Manager::start_on(world, database, &[]);
    let again = post(&manager.client(&token), "/v1/users", "k1", &json!({ "name": "alice", "role": "user" }));
    assert_eq!(again.ok(201).header("idempotency-replayed"), Some("true"));
    manager.end();
});

/// Sends a request, and does not wait for its answer.
fn send(client: &Client, path: &str, key: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let address = client.url().strip_prefix("http://").expect("a URL");
    let mut socket = TcpStream::connect(address).expect("connected");
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        client.token(),
        body.len()
    )
    .expect("sent");
    socket
}

#[test]
fn a_request_is_carried_out_once_whatever_happens_to_its_client() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let request = json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] });
    let slow = json!({ "command": ["sh", "-c", "echo begun >> /tmp/runs; while ! test -e /tmp/go; do sleep 0.1; done; echo ended"] });
    let machine = admin.create(&request);
    let path = format!("/v1/vms/{}/exec", machine["id"].as_str().expect("an id"));
    // The client goes away while the command runs.
    let gone = send(&admin, &path, "k", &slow);
    until("the command runs", || {
        let runs = admin.sh("web", "cat /tmp/runs")["stdout"].as_str().map(str::to_owned);
        runs.filter(|text| !text.is_empty())
    });
    drop(gone);
    let answer = post(&admin, &path, "k", &slow);
    answer.problem(409, "idempotency-in-progress");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(admin.sh("web", "touch /tmp/go")["exit_code"], 0);
    let kept = until("the command has ended", || {
        let answer = post(&admin, &path, "k", &slow);
        (answer.status != 409).then_some(answer)
    });
    assert_eq!(kept.header("idempotency-replayed"), Some("true"));
    assert_eq!(kept.ok(200).json()["item"]["stdout"], "ended\n");
    assert_eq!(admin.sh("web", "cat /tmp/runs")["stdout"], "begun\n", "it ran once");
    // The manager is killed during a request.
    let slow = json!({ "command": ["sh", "-c", "touch /tmp/second; sleep 1000"] });
    let _waiting = send(&admin, &path, "k2", &slow);
    until("the second command runs", || {
        (admin.sh("web", "test -e /tmp/second")["exit_code"] == 0).then_some(())
    });
    let token = admin.token().to_owned();
    manager.kill();
    let manager = Manager::start(&world, &[]);
    let admin = manager.client(&token);
    post(&admin, &path, "k2", &slow).problem(409, "idempotency-outcome-unknown");
    admin.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn the_secret_of_a_machine_is_not_kept() {
    let world = World::cold(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let request = json!({ "name": "web", "image": world.busybox(), "start": false });
    let _machine = admin.post("/v1/vms?wait=60", &request).ok(201);
    post(&admin, "/v1/vms/web/token", "k", &json!({})).ok(201);
    post(&admin, "/v1/vms/web/token", "k", &json!({})).problem(409, "idempotency-answer-not-kept");
    admin.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}
