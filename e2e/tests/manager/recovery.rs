//! What is requested is done, whatever happens meanwhile.

use e2e::{Client, LOGIN, Manager, Registry, User, World, until};
use serde_json::{Value, json};

use crate::slow_image::{SlowImage, begin_creation};

fn item(client: &Client, machine: &str) -> Value {
    client.get(&format!("/v1/vms/{machine}")).ok(200).json()["item"].clone()
}

fn id_of(machine: &Value) -> &str {
    machine["id"].as_str().expect("an id")
}

/// Seconds that a machine lives; its start on Firecracker takes longer than those of others on a slow host.
fn lifetime() -> u64 {
    if std::env::var_os("MIMEO_E2E_FIRECRACKER").is_some() { 30 } else { 3 }
}

/// Asserts that a machine's end was announced, before it was removed because its time was over.
fn assert_announced(client: &Client, machine: &Value) {
    let events = client.get(&format!("/v1/events?resource={}", id_of(machine))).ok(200).json();
    let events = events["items"].as_array().expect("a list").clone();
    let place = |kind| {
        let found = events.iter().position(|event| event["kind"] == kind);
        found.unwrap_or_else(|| panic!("{kind}: {events:#?}"))
    };
    let order = ["machine.expiring", "machine.delete_requested", "machine.deleted"];
    assert!(order.map(place).is_sorted(), "{events:#?}");
    let [expiring, deleted] = ["machine.expiring", "machine.deleted"].map(|kind| &events[place(kind)]);
    assert_eq!(expiring["data"]["expires_at"], machine["expires_at"], "{expiring}");
    assert_eq!((&expiring["actor"], &deleted["actor"]), (&json!("manager"), &json!("manager")));
    let ttl = format!("its time to live, {} s, was over", lifetime());
    assert_eq!(deleted["data"]["reason"], ttl, "{deleted}");
    let tombstone = item(client, id_of(machine));
    assert_eq!((&tombstone["state"], &tombstone["ended_reason"]), (&json!("deleted"), &json!(ttl)));
}

#[test]
fn a_machine_is_removed_when_its_time_is_over() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request =
        json!({ "image": world.busybox(), "command": ["sleep", "1000"], "ttl_seconds": lifetime() });
    let machine = client.create(&request);
    let path = format!("/v1/vms/{}/wait?state=deleted&timeout=60", id_of(&machine));
    client.get(&path).ok(200);
    assert_announced(&client, &machine);
    manager.end();
    world.assert_empty();
}

#[test]
fn a_time_to_live_is_kept_while_no_manager_runs() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request =
        json!({ "image": world.busybox(), "command": ["sleep", "1000"], "ttl_seconds": lifetime() });
    let machine = client.create(&request);
    manager.kill();
    let expires: jiff::Timestamp = machine["expires_at"].as_str().expect("a time").parse().expect("a time");
    until("the time is over", || (jiff::Timestamp::now() > expires).then_some(()));
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    client.get(&format!("/v1/vms/{}/wait?state=deleted&timeout=60", id_of(&machine))).ok(200);
    assert_announced(&client, &machine);
    manager.end();
    world.assert_empty();
}

#[test]
fn a_failed_creation_says_why_and_leaves_nothing() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request = json!({ "name": "bad", "image": world.busybox(), "command": ["/no/such/program"] });
    client.post("/v1/containers?wait=120", &request).problem(422, "command-not-found");
    let failed = item(&client, "bad");
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(failed["failure"]["code"], "command-not-found", "{failed}");
    assert!(failed["stages"].as_array().is_some_and(|stages| stages.len() > 2), "{failed}");
    world.mimeo(["ps", "-a", "-q"]).ok().printed("");
    client.post("/v1/vms/bad/start", &json!({})).problem(409, "machine-failed");
    client.delete("/v1/vms/bad?wait=10").ok(200);
    client.get("/v1/vms/bad").problem(404, "not-found");
    manager.end();
    world.assert_empty();
}

#[test]
fn a_removal_cancels_a_creation() {
    let world = World::new(User::Root);
    let slow = SlowImage::serve(&world);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let operation = begin_creation(&client, &slow.request("slow"));
    client.delete("/v1/vms/slow?wait=60").ok(200);
    assert_eq!(client.get(&operation).ok(200).json()["item"]["status"], "cancelled");
    client.get("/v1/vms/slow").problem(404, "not-found");
    manager.end();
    world.assert_empty();
}

#[test]
fn a_creation_says_that_its_login_was_lost() {
    let world = World::new(User::Root);
    drop(world.busybox());
    let registry = Registry::start_with_login();
    let credentials = format!("--dest-creds={}:{}", LOGIN.0, LOGIN.1);
    let name = registry.push_with(&[&credentials], &world.files().join("busybox"), "app");
    let slow = SlowImage::hold_back(registry, &name);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let mut request = slow.request("web");
    request["registry"]["auth"] = json!({ "username": LOGIN.0, "password": LOGIN.1 });
    let operation = begin_creation(&client, &request);
    manager.kill();
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    let ended = client.get(&format!("{operation}/wait?timeout=60")).ok(200).json()["item"].clone();
    assert_eq!(ended["error"]["code"], "login-lost", "{ended}");
    assert_eq!(item(&client, "web")["failure"]["code"], "login-lost");
    client.delete("/v1/vms/web?wait=60").ok(200);
    slow.proxy.lift_limit();
    client.post("/v1/containers?wait=120", &request).ok(201);
    client.delete("/v1/vms/web?force=true&wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn what_other_clients_do_is_seen() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let image = world.busybox();
    let machine = client.create(&json!({ "name": "web", "image": image, "command": ["sleep", "1000"] }));
    world.start(["--name", "other", &image, "sleep", "1000"]);
    let listed = |name: &str| {
        let all = client.get("/v1/vms").ok(200).json();
        all["items"].as_array().expect("a list").iter().find(|item| item["name"] == name).cloned()
    };
    until("the other machine is listed", || listed("other").filter(|item| item["state"] == "running"));
    world.mimeo(["stop", "-t", "0", "web"]).ok();
    let stopped =
        until("the list shows that it has exited", || listed("web").filter(|item| item["state"] == "exited"));
    assert_eq!(stopped["exit"]["code"], 137, "{stopped}");
    world.mimeo(["rm", "web"]).ok();
    until("it is listed no more", || listed("web").is_none().then_some(()));
    let tombstone = item(&client, id_of(&machine));
    assert_eq!(tombstone["state"], "deleted", "{tombstone}");
    // A supervisor that is killed takes its machine with it.
    let pid = listed("other").expect("listed")["supervisor_pid"].as_i64().expect("a PID");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a PID")).expect("a PID");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    until("the list shows that it has exited", || listed("other").filter(|item| item["state"] == "exited"));
    client.delete("/v1/vms/other?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}
