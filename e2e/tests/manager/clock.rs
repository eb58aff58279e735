//! A host whose clock is set while machines run.

use e2e::{Client, Clock, Manager, User, World, until};
use serde_json::{Value, json};

use crate::security::{client_with, new_user};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Creates a machine that lives so long, or until it is removed.
fn create(world: &World, client: &Client, name: &str, ttl_seconds: Option<i64>) -> Value {
    let request = json!({ "name": name, "image": world.busybox(), "command": ["sleep", "1000"] });
    let mut request = request.as_object().expect("an object").clone();
    request.extend(ttl_seconds.map(|ttl| ("ttl_seconds".to_owned(), ttl.into())));
    client.create(&request.into())
}

fn until_deleted(client: &Client, machine: &Value) -> Value {
    let id = machine["id"].as_str().expect("an id");
    let path = format!("/v1/vms/{id}/wait?state=deleted&timeout=60");
    client.get(&path).ok(200).json()["item"].clone()
}

fn assert_running(client: &Client, names: &[&str]) {
    for name in names {
        assert_eq!(client.sh(name, "echo hello")["stdout"], "hello\n", "{name}");
    }
    let listed = client.get("/v1/vms?sort=name").ok(200).json();
    let listed: Vec<_> =
        listed["items"].as_array().expect("a list").iter().map(|item| &item["name"]).collect();
    assert_eq!(listed, names);
}

/// All events. None is missing, and each follows from the one before it.
fn events(admin: &Client) -> Vec<Value> {
    let page = admin.get("/v1/events?limit=1000").ok(200).json();
    let events = page["items"].as_array().expect("a list").clone();
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event["seq"], number);
    }
    let verified = admin.get("/v1/events/verify").ok(200).json();
    assert_eq!(verified["item"], json!({ "is_whole": true, "first_broken": null, "last": events.len() }));
    events
}

#[test]
fn a_clock_that_is_set_ends_what_is_over_and_nothing_else() {
    let clock = Clock::default();
    let world = World::new(User::Root).with_clock(&clock);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    new_user(&admin, "alice", "user");
    let token = |ttl: i64| client_with(&admin, &json!({ "user": "alice", "ttl_seconds": ttl }));
    let (brief, lasting) = (token(HOUR), token(10 * DAY));
    let hour = create(&world, &admin, "hour", Some(HOUR));
    let week = create(&world, &admin, "week", Some(7 * DAY));
    create(&world, &admin, "endless", None);
    let restarted = admin.post("/v1/vms/endless/restart?timeout=0&wait=60", &json!({})).ok(200).json();
    let operation = format!("/v1/operations/{}", restarted["operation"]["id"].as_str().expect("an id"));

    clock.set(DAY - HOUR);
    brief.get("/v1/whoami").problem(401, "token-expired");
    lasting.get("/v1/whoami").ok(200);
    let ended = until_deleted(&admin, &hour);
    assert_eq!(ended["ended_reason"], "its time to live, 3600 s, was over", "{ended}");
    assert_running(&admin, &["endless", "week"]);
    admin.get(&operation).ok(200);

    // Back before everything: what is new ends in its time, and what is recorded stays in order.
    clock.set(-2 * DAY);
    let short = create(&world, &admin, "short", Some(2));
    until_deleted(&admin, &short);
    lasting.get("/v1/whoami").ok(200);
    assert_running(&admin, &["endless", "week"]);
    let recorded = events(&admin);
    let times: Vec<jiff::Timestamp> = recorded
        .iter()
        .map(|event| event["time"].as_str().expect("a time").parse().expect("a time"))
        .collect();
    assert!(!times.is_sorted(), "the clock was set back");
    let id = hour["id"].as_str();
    let of_hour: Vec<_> = recorded.iter().filter(|event| event["resource"]["id"].as_str() == id).collect();
    let kinds: Vec<_> = of_hour.iter().filter_map(|event| event["kind"].as_str()).collect();
    let place =
        |kind| kinds.iter().position(|one| *one == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(place("machine.expiring") < place("machine.delete_requested"), "{kinds:?}");

    // The setting back did not stop the clock for those who were there before.
    clock.set(8 * DAY);
    until_deleted(&admin, &week);
    assert_running(&admin, &["endless"]);
    // What ended long ago is forgotten.
    until(operation.as_str(), || (admin.get(&operation).status == 404).then_some(()));
    admin.delete("/v1/vms/endless?wait=60").ok(200);
    events(&admin);
    manager.end();
    world.assert_empty();
}
