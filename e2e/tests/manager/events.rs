//! Events: pages, streams, and the chain.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use e2e::{Client, Database, Manager, User, World, on_both_databases, until};
use serde_json::{Value, json};

use crate::security::{client_with, new_user};

/// A stream of events.
struct Stream {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Stream {
    /// Opens it with this query and these headers.
    fn open(client: &Client, query: &str, headers: &str) -> Self {
        let address = client.url().strip_prefix("http://").expect("a URL");
        let mut socket = TcpStream::connect(address).expect("connected");
        let token = client.token();
        write!(
            socket,
            "GET /v1/events?{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n{headers}\r\n"
        )
        .expect("sent");
        let mut stream = Self { lines: BufReader::new(socket).lines() };
        let status = stream.line().expect("a status");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while stream.line().is_some_and(|line| !line.is_empty()) {}
        stream
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<String> {
        self.lines.next().and_then(Result::ok)
    }

    /// The problem of the event with which the manager ends the stream.
    fn problem(&mut self) -> Value {
        while self.line().expect("an event of an error") != "event: error" {}
        let data = self.line().expect("its data");
        serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON")
    }

    /// The next event, whose id and name are those of its data.
    fn next(&mut self) -> Option<Value> {
        let (mut id, mut name) = (None, None);
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("event", text)) => name = Some(text.to_owned()),
                Some(("data", text)) => {
                    let event: Value = serde_json::from_str(text).expect("JSON");
                    assert_eq!(id, Some(event["seq"].to_string()), "{event}");
                    assert_eq!(name.as_deref(), event["kind"].as_str(), "{event}");
                    return Some(event);
                }
                // The lengths of chunks, comments and empty lines.
                _ => {}
            }
        }
    }
}

fn sequence(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["seq"].as_i64().expect("a number")).collect()
}

fn list(client: &Client, query: &str) -> Vec<Value> {
    client.get(&format!("/v1/events?{query}")).ok(200).json()["items"].as_array().expect("a list").clone()
}

on_both_databases!(events_are_listed_and_streamed_without_a_gap, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    let bob = new_user(&admin, "bob", "user");
    let events = list(&admin, "");
    assert_eq!(sequence(&events), [1, 2, 3, 4], "{events:?}");
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["user.created", "token.created", "user.created", "token.created"]);
    assert!(!json!(events).to_string().contains("mimeo_"), "no secrets");
    // Pages.
    let page = admin.get("/v1/events?limit=3").ok(200).json();
    assert_eq!((page["items"].as_array().map(Vec::len), &page["next_cursor"]), (Some(3), &json!("3")));
    let rest = admin.get("/v1/events?limit=3&after=3").ok(200).json();
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(1), &Value::Null));
    // Each user sees the own ones.
    assert_eq!(sequence(&list(&alice, "")), [1, 2]);
    assert_eq!(sequence(&list(&alice, "owner=bob")), [1, 2]);
    assert_eq!(sequence(&list(&bob, "kind=token")), [4]);
    assert_eq!(sequence(&list(&admin, "owner=bob&kind=user.created")), [3]);
    let id = events[0]["resource"]["id"].as_str().expect("an id");
    assert_eq!(sequence(&list(&admin, &format!("resource={id}"))), [1]);
    // Numbers that are used later are not skipped: the database may be another one than the client has read.
    let ahead = admin.get("/v1/events?after=5").problem(409, "events-ahead");
    assert!(ahead["detail"].as_str().is_some_and(|detail| detail.ends_with("the last one is 4")), "{ahead}");
    let headers = [("accept", "text/event-stream"), ("last-event-id", "5")];
    admin.send("GET", "/v1/events?after=1", &headers, b"").problem(409, "events-ahead");
    assert_eq!(list(&admin, "after=4"), [json!(null); 0]);
    for wrong in ["after=-1", "after=x", "limit=0", "what=1"] {
        admin.get(&format!("/v1/events?{wrong}")).problem(400, "invalid-request");
    }
    // A stream from the beginning, and one of what is to come.
    let mut all = Stream::open(&admin, "after=0", "");
    let mut new = Stream::open(&admin, "", "");
    let mut of_alice = Stream::open(&alice, "", "");
    for number in 1..=4 {
        assert_eq!(all.next().expect("an event")["seq"], number);
    }
    client_with(&admin, &json!({ "user": "bob" }));
    client_with(&admin, &json!({ "user": "alice" }));
    for stream in [&mut all, &mut new] {
        assert_eq!(stream.next().expect("an event")["seq"], 5);
        assert_eq!(stream.next().expect("an event")["seq"], 6);
    }
    assert_eq!(of_alice.next().expect("an event")["seq"], 6);
    // A token that was removed gets no more, not even the event of its own end.
    for token in admin.get("/v1/tokens?user=alice").ok(200).json()["items"].as_array().expect("a list") {
        admin.delete(&format!("/v1/tokens/{}", token["id"].as_str().expect("an id"))).ok(200);
    }
    let problem = of_alice.problem();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(401), &json!("unauthenticated")), "{problem}");
    assert_eq!(of_alice.next(), None);
    // It is resumed after the manager was killed.
    let token = admin.token().to_owned();
    manager.kill();
    while all.next().is_some() {}
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.client(&token);
    let mut resumed = Stream::open(&admin, "after=0", "last-event-id: 5\r\n");
    new_user(&admin, "carol", "user");
    let rest = list(&admin, "after=5");
    for event in &rest {
        assert_eq!(resumed.next().as_ref(), Some(event));
    }
    manager.end();
    assert_eq!(resumed.next(), None, "the stream ends with the manager");
});

/// Changes a stored event.
fn edit_event(world: &World, database: &Database, seq: i64) {
    let statement = format!("UPDATE events SET item = replace(item, 'alice', 'mallory') WHERE seq = {seq}");
    match database {
        Database::Postgres(server) => drop(server.sql(&statement)),
        Database::Sqlite => {
            let script =
                "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
            let file = world.home().join("mimeo.db");
            let status = Command::new("python3").args(["-c", script]).arg(file).arg(statement).status();
            assert!(status.expect("python3 starts").success());
        }
    }
}

on_both_databases!(an_edited_event_shows, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    new_user(&admin, "bob", "user");
    let verify = || admin.get("/v1/events/verify").ok(200).json()["item"].clone();
    assert_eq!(verify(), json!({ "is_whole": true, "first_broken": null, "last": 4 }));
    alice.get("/v1/events/verify").problem(403, "forbidden");
    edit_event(world, database, 2);
    assert_eq!(verify(), json!({ "is_whole": false, "first_broken": 2, "last": 4 }));
    manager.end();
});

#[test]
fn what_callers_do_in_machines_is_recorded() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let machine =
        admin.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    let id = machine["id"].as_str().expect("an id");
    let command = json!({ "command": ["echo", "secret"], "env": { "PASSWORD": "secret" } });
    admin.post("/v1/vms/web/exec", &command).ok(200);
    let _files = admin.get("/v1/vms/web/files/list?path=/etc").ok(200);
    let events = list(&admin, &format!("resource={id}"));
    let files = events.iter().find(|event| event["kind"] == "machine.files").expect("an event");
    assert_eq!(files["data"], json!({ "name": "web", "method": "GET", "path": "/etc" }), "{files}");
    let exec = events.iter().find(|event| event["kind"] == "machine.exec").expect("an event");
    assert_eq!((&exec["actor"], &exec["data"]["program"]), (&json!("admin"), &json!("echo")), "{exec}");
    assert!(!json!(events).to_string().contains("secret"), "{events:?}");
    let kinds: Vec<_> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert!(kinds.contains(&"machine.create_requested") && kinds.contains(&"machine.running"), "{kinds:?}");
    metrics_count(&admin);
    admin.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

/// Prometheus can read the figures.
fn metrics_count(admin: &Client) {
    let text = until("the operation is counted", || {
        let answer = admin.get("/metrics").ok(200);
        let text = String::from_utf8(answer.body).expect("text");
        text.contains("mimeo_operations_finished_total{kind=\"create\",status=\"succeeded\"} 1")
            .then_some(text)
    });
    for part in [
        "mimeo_boots_total{method=\"warm\"} 1",
        "mimeo_machines{state=\"running\"} 1",
        "mimeo_http_requests_total{method=\"POST\",route=\"/v1/vms/{id}/exec\",status=\"200\"} 1",
        "mimeo_http_request_duration_seconds_bucket{le=\"0.001\",method=\"GET\"",
        "mimeo_operation_duration_seconds_count{kind=\"create\"} 1",
        "mimeo_database_ping_seconds 0.",
        "mimeo_build_info{version=\"",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for line in samples {
        let (_, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
