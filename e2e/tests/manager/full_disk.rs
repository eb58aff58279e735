//! A database whose disk has no space.

use e2e::{Answer, Client, Filler, Manager, SmallDisk, User, World, until};
use serde_json::json;

/// Space for the database of some hundred records.
const DISK_BYTES: u64 = 4 << 20;
/// Writes that fit into what the database has reserved before, at most.
const MAX_WRITES: u32 = 10_000;
/// More than the manager has connections: each may have failed once.
const REFUSALS: usize = 20;
/// A machine's request that is longer than what is left after shorter ones were refused.
const LONG: usize = 100_000;

/// Creates users until that was refused a few times; returns the names of those who were created, and the last refusal.
fn write_until_refused(client: &Client) -> (Vec<String>, Answer) {
    let (mut created, mut refused) = (Vec::new(), Vec::new());
    for number in 0..MAX_WRITES {
        let name = format!("user{number}");
        let answer = client.post("/v1/users", &json!({ "name": name, "role": "user" }));
        match answer.status {
            201 => created.push(name),
            _ => refused.push(answer),
        }
        if refused.len() == REFUSALS {
            return (created, refused.remove(0));
        }
    }
    panic!("{MAX_WRITES} users fit on a full disk");
}

/// The names of all users, in order.
fn all_users(client: &Client) -> Vec<String> {
    let (mut names, mut query) = (Vec::new(), "limit=1000".to_owned());
    loop {
        let page = client.get(&format!("/v1/users?{query}")).ok(200).json();
        let items = page["items"].as_array().expect("a list");
        names.extend(items.iter().map(|user| user["name"].as_str().expect("a name").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("limit=1000&cursor={cursor}");
    }
    names.sort();
    names
}

fn state(client: &Client, machine: &str) -> String {
    let item = client.get(&format!("/v1/vms/{machine}")).ok(200).json()["item"].clone();
    item["state"].as_str().expect("a state").to_owned()
}

#[test]
fn machines_run_on_while_the_database_has_no_space() {
    let world = World::new(User::Ordinary);
    let disk = SmallDisk::mount(world.files().join("database"), DISK_BYTES);
    let database = format!("sqlite:{}", disk.path().join("mimeo.db").display());
    let manager = Manager::start(&world, &["--database", &database, "--rate-limit", "0"]);
    let client = manager.admin();
    let token = client.token().to_owned();
    let request = json!({ "image": world.busybox(), "command": ["sleep", "1000"] });
    for name in ["web", "stopped", "ended"] {
        let mut request = request.clone();
        request["name"] = name.into();
        if name == "stopped" {
            request["command"] = json!(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
        }
        let _machine = client.create(&request);
    }
    // The disk becomes full while an operation is carried out.
    let begun = client.post("/v1/vms/stopped/stop?timeout=5", &json!({})).ok(202).json();
    let operation = format!("/v1/operations/{}", begun["operation"]["id"].as_str().expect("an id"));
    let filler = Filler::new(disk.path());
    let (mut users, refused) = write_until_refused(&client);
    let problem = refused.problem(507, "database-full");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("space")), "{problem}");
    // What would have to be recorded is refused before it is done.
    let mut long = request.clone();
    long["labels"] = json!({ "long": "x".repeat(LONG) });
    client.post("/v1/vms", &long).problem(507, "database-full");
    // What runs runs on, and reads show it.
    world.mimeo(["exec", "web", "echo", "hello"]).ok().printed("hello\n");
    world.mimeo(["stop", "-t", "0", "ended"]).ok();
    assert_eq!(state(&client, "web"), "running");
    assert_eq!(state(&client, "ended"), "exited", "it is read from its record");
    for path in
        ["/v1/vms", "/v1/operations", "/v1/events", "/v1/users", "/v1/images", "/v1/snapshots", "/v1/volumes"]
    {
        client.get(path).ok(200);
    }
    filler.remove();
    let operation = client.get(&format!("{operation}/wait?timeout=60")).ok(200).json();
    assert_eq!(operation["item"]["status"], "succeeded", "the result was recorded: {operation}");
    users.push("last".to_owned());
    client.post("/v1/users", &json!({ "name": "last", "role": "user" })).ok(201);
    assert_eq!(client.sh("web", "echo hello")["stdout"], "hello\n");
    // A manager that starts again finds all that was acknowledged, and nothing else.
    manager.kill();
    let manager = Manager::start(&world, &["--database", &database]);
    let client = manager.client(&token);
    users.push("admin".to_owned());
    users.sort();
    assert_eq!(all_users(&client), users);
    let verified = client.get("/v1/events/verify").ok(200).json();
    assert_eq!(verified["item"]["is_whole"], true, "{verified}");
    for (name, expected) in [("web", "running"), ("stopped", "exited"), ("ended", "exited")] {
        until("the state is recorded", || (state(&client, name) == expected).then_some(()));
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_empty();
}
