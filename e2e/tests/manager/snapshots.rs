//! Snapshots and clones over HTTP.

use e2e::{Client, Manager, User, World, as_root_and_user, on_both_databases, until};
use serde_json::{Value, json};

use crate::security::new_user;

/// Starts a machine that counts in its memory.
fn start(world: &World, client: &Client, name: &str) -> Value {
    let script = "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.05; done";
    let request = json!({ "name": name, "image": world.busybox(), "command": ["sh", "-c", script] });
    let machine = client.create(&request);
    until("it counts", || (client.sh(name, "cat /count")["stdout"] != "").then_some(()));
    machine
}

fn take(client: &Client, machine: &str, request: &Value) -> Value {
    let path = format!("/v1/vms/{machine}/snapshots?wait=60");
    client.post(&path, request).ok(201).json()["item"].clone()
}

fn tags(answer: &Value) -> Vec<&str> {
    let items = answer["items"].as_array().expect("a list");
    items.iter().map(|item| item["tag"].as_str().unwrap_or_default()).collect()
}

on_both_databases!(snapshots_are_taken_listed_and_removed, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let client = manager.admin();
    let machine = start(world, &client, "web");
    let first = take(&client, "web", &json!({ "tag": "first", "labels": { "app": "web", "tier": "1" } }));
    assert_eq!((&first["kind"], &first["state"]), (&json!("diff"), &json!("ready")), "{first}");
    assert_eq!((&first["machine"], &first["owner"]), (&machine["id"], &json!("admin")));
    assert!(first["pause_ms"].as_f64().is_some_and(|pause| pause > 0.0), "{first}");
    let second = take(&client, "web", &json!({ "tag": "second", "kind": "diff", "labels": { "app": "db" } }));
    world.snapshot("web", "third");

    let all = client.get("/v1/snapshots?sort=-tag").ok(200).json();
    assert_eq!(tags(&all), ["third", "second", "first"]);
    assert_eq!(all["items"][0]["owner"], "local", "{all}");
    assert_eq!(tags(&client.get("/v1/snapshots?label=app%3Dweb&label=tier").ok(200).json()), ["first"]);
    assert_eq!(tags(&client.get("/v1/containers/web/snapshots?tag=second").ok(200).json()), ["second"]);
    let page = client.get("/v1/snapshots?limit=2").ok(200).json();
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    let rest = client.get(&format!("/v1/snapshots?limit=2&cursor={cursor}")).ok(200).json();
    assert_eq!((tags(&page), tags(&rest)), (vec!["first", "second"], vec!["third"]));
    let id = first["id"].as_str().expect("an id");
    let by_id = client.get(&format!("/v1/snapshots/{}", &id[..12])).ok(200);
    assert_eq!(by_id.header("etag"), Some(&*format!("\"{}\"", first["version"])));
    assert_eq!(by_id.json()["item"], first);

    // What another client removes is gone.
    world.mimeo(["snapshot", "rm", "third"]).ok();
    client.get("/v1/snapshots/third").problem(404, "not-found");
    client
        .send("DELETE", "/v1/snapshots/first", &[("if-match", "\"99\"")], b"")
        .problem(412, "version-changed");
    assert_eq!(client.delete("/v1/snapshots/first").ok(200).json()["item"], first);
    client.get("/v1/snapshots/first").problem(404, "not-found");
    world
        .mimeo(["snapshot", "ls", "-q"])
        .ok()
        .printed(&format!("{}\n", &second["id"].as_str().expect("an id")[..12]));
    client.delete("/v1/snapshots/second").ok(200);
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
});

#[test]
fn a_snapshot_that_cannot_be_taken_is_refused_with_a_reason() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    let path = "/v1/vms/web/snapshots?wait=60";
    let problem = client.post(path, &json!({ "kind": "full" })).problem(409, "snapshot-kind-unavailable");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("was restored from")), "{problem}");
    drop(take(&client, "web", &json!({ "tag": "taken" })));
    client.post(path, &json!({ "tag": "taken" })).problem(409, "tag-taken");
    client.post(path, &json!({ "tag": "no spaces" })).problem(422, "invalid-field");
    client.post(path, &json!({ "kind": "huge" })).problem(400, "invalid-body");
    client.post(path, &json!({ "more": 1 })).problem(400, "invalid-body");
    client.post("/v1/vms/nobody/snapshots", &json!({})).problem(404, "not-found");
    client.get("/v1/snapshots?sort=size").problem(400, "invalid-request");
    // One that does not run has no memory to save.
    let stopped = client.post("/v1/vms/web/stop?timeout=0&wait=60", &json!({})).ok(200).json();
    assert_eq!(stopped["item"]["state"], "exited");
    client.post(path, &json!({ "kind": "diff" })).problem(409, "snapshot-kind-unavailable");
    let disk = take(&client, "web", &json!({ "kind": "disk" }));
    assert_eq!((&disk["kind"], &disk["pause_ms"]), (&json!("disk"), &Value::Null), "{disk}");
    // A machine that was booted is saved as a whole.
    let request =
        json!({ "name": "cold", "image": world.busybox(), "command": ["sleep", "1000"], "cold": true });
    drop(client.create(&request));
    assert_eq!(take(&client, "cold", &json!({ "kind": "full" }))["kind"], "full");
    manager.end();
    world.assert_removes_all();
}

#[test]
fn a_snapshot_in_use_is_not_removed() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    drop(take(&client, "web", &json!({ "tag": "parent" })));
    let request = json!({ "name": "clone", "snapshot": "parent" });
    let clone = client.create(&request);
    assert_eq!(clone["boot_method"], "clone", "{clone}");
    let child = take(&client, "clone", &json!({ "tag": "child" }));
    let problem = client.delete("/v1/snapshots/parent").problem(409, "snapshot-in-use");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("snapshot child")), "{problem}");
    assert_eq!(child["parent"], clone["snapshot"]);
    client.delete("/v1/snapshots/child").ok(200);
    // Machines that were started from it run on.
    client.delete("/v1/snapshots/parent").ok(200);
    assert_eq!(client.sh("clone", "echo hello")["stdout"], "hello\n");
    client.post("/v1/vms/clone/snapshots", &json!({})).problem(409, "parent-missing");
    for name in ["web", "clone"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_empty();
}

as_root_and_user!(clones_are_started_each_by_itself, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    drop(start(world, &client, "web"));
    drop(take(&client, "web", &json!({ "tag": "warm" })));
    let request =
        json!({ "names": ["one", "two"], "env": { "WHO": "clone" }, "labels": { "kind": "clone" } });
    let done = client.post("/v1/snapshots/warm/instantiate?wait=120", &request).ok(201).json();
    let clones = done["operation"]["result"]["clones"].as_array().expect("a list").clone();
    let names: Vec<_> =
        clones.iter().map(|clone| clone["machine"]["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["one", "two"]);
    for (clone, name) in clones.iter().zip(names) {
        assert_eq!(clone["id"], clone["machine"]["id"]);
        assert_eq!(clone["machine"]["state"], "running", "{clone}");
        assert_eq!(clone["machine"]["labels"], json!({ "kind": "clone" }));
        assert_eq!(client.sh(name, "echo $WHO")["stdout"], "clone\n");
        let count = |machine: &str| client.sh(machine, "cat /count")["stdout"].clone();
        let before = count(name);
        until("its workload runs", || (count(name) != before).then_some(()));
    }
    assert_eq!(
        client.get("/v1/vms?label=kind%3Dclone").ok(200).json()["items"].as_array().map(Vec::len),
        Some(2)
    );
    // Names are claimed before anything is started.
    let path = "/v1/snapshots/warm/instantiate?wait=60";
    client.post(path, &json!({ "names": ["three", "one"] })).problem(409, "name-taken");
    client.get("/v1/vms/three").problem(404, "not-found");
    client.post(path, &json!({ "names": ["a", "b"], "count": 3 })).problem(422, "invalid-field");
    client.post(path, &json!({ "count": 0 })).problem(422, "invalid-field");
    client
        .post(path, &json!({ "count": 2, "ports": [{ "container_port": 80, "host_port": 8080 }] }))
        .problem(422, "invalid-field");
    client
        .post("/v1/containers", &json!({ "snapshot": "warm", "memory_mib": 64 }))
        .problem(422, "invalid-field");
    client.post("/v1/containers", &json!({ "snapshot": "no-such" })).problem(404, "not-found");
    for name in ["web", "one", "two"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    client.delete("/v1/snapshots/warm").ok(200);
    manager.end();
    world.assert_empty();
});

#[test]
fn a_clone_that_fails_does_not_stop_the_others() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    drop(take(&client, "web", &json!({ "tag": "warm" })));
    // All wait for the first start, which has to prepare the snapshot's memory; meanwhile one of them is removed.
    let request = json!({ "names": ["one", "two", "three", "four", "gone"] });
    let accepted = client.post("/v1/snapshots/warm/instantiate", &request).ok(202).json();
    let gone = accepted["operation"]["result"]["clones"][4]["id"].as_str().expect("an id").to_owned();
    client.delete(&format!("/v1/vms/{gone}?wait=120")).ok(200);
    let operation =
        format!("/v1/operations/{}/wait?timeout=120", accepted["operation"]["id"].as_str().expect("an id"));
    let done = client.get(&operation).ok(200).json()["item"].clone();
    assert_eq!(done["status"], "succeeded", "{done}");
    let clones = done["result"]["clones"].as_array().expect("a list");
    assert!(clones[..4].iter().all(|clone| clone["machine"]["state"] == "running"), "{done}");
    assert_eq!(client.get(&format!("/v1/vms/{gone}")).ok(200).json()["item"]["state"], "deleted");
    assert_eq!(client.get("/v1/vms").ok(200).json()["items"].as_array().map(Vec::len), Some(5));
    manager.end();
    world.assert_removes_all();
}

#[test]
fn clones_that_cannot_be_started_say_why() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    drop(take(&client, "web", &json!({ "tag": "warm" })));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ports = json!([{ "container_port": 80, "host_port": port, "host_ip": "127.0.0.1" }]);
    let request = json!({ "names": ["one"], "ports": ports });
    client.post("/v1/snapshots/warm/instantiate?wait=60", &request).problem(409, "port-in-use");
    let failed = client.get("/v1/vms/one").ok(200).json()["item"].clone();
    assert_eq!(
        (&failed["state"], &failed["failure"]["code"]),
        (&json!("failed"), &json!("port-in-use")),
        "{failed}"
    );
    client
        .post("/v1/containers?wait=60", &json!({ "name": "two", "snapshot": "warm", "ports": ports }))
        .problem(409, "port-in-use");
    for name in ["web", "one", "two"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    client.delete("/v1/snapshots/warm").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn cancelled_clones_are_removed() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    drop(take(&client, "web", &json!({ "tag": "warm" })));
    let accepted = client.post("/v1/snapshots/warm/instantiate", &json!({ "count": 6 })).ok(202);
    let operation = accepted.header("location").expect("a location").to_owned();
    let cancelled = client.delete(&operation).ok(200).json()["item"].clone();
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    let names = client.get("/v1/vms").ok(200).json();
    assert_eq!(names["items"].as_array().map(Vec::len), Some(1), "{names}");
    client.delete("/v1/vms/web?wait=60").ok(200);
    client.delete("/v1/snapshots/warm").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn a_killed_manager_finishes_its_snapshots_and_clones_later() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    drop(start(&world, &client, "web"));
    let accepted = client.post("/v1/vms/web/snapshots", &json!({ "tag": "warm" })).ok(202).json();
    manager.kill();
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    let wait = |accepted: &Value| {
        let id = accepted["operation"]["id"].as_str().expect("an id");
        Client::new(&manager.url, client.token())
            .get(&format!("/v1/operations/{id}/wait?timeout=120"))
            .ok(200)
            .json()["item"]
            .clone()
    };
    let done = wait(&accepted);
    assert_eq!(done["status"], "succeeded", "{done}");
    let listed = client.get("/v1/snapshots").ok(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["items"][0]["id"], accepted["item"]["id"]);
    let accepted = client.post("/v1/snapshots/warm/instantiate", &json!({ "count": 3 })).ok(202).json();
    manager.kill();
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    let id = accepted["operation"]["id"].as_str().expect("an id");
    let done = client.get(&format!("/v1/operations/{id}/wait?timeout=120")).ok(200).json()["item"].clone();
    assert_eq!(done["status"], "succeeded", "{done}");
    let ids = |operation: &Value| -> Vec<Value> {
        let clones = operation["result"]["clones"].as_array().expect("a list");
        clones.iter().map(|clone| clone["id"].clone()).collect()
    };
    assert_eq!(ids(&done), ids(&accepted["operation"]));
    for clone in done["result"]["clones"].as_array().expect("a list") {
        assert_eq!(clone["machine"]["state"], "running", "{done}");
        assert_eq!(clone["machine"]["owner"], "admin", "{done}");
    }
    assert_eq!(client.get("/v1/vms").ok(200).json()["items"].as_array().map(Vec::len), Some(4));
    manager.end();
    world.assert_removes_all();
}

#[test]
fn other_users_snapshots_are_unknown() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let (alice, bob) = (new_user(&admin, "alice", "user"), new_user(&admin, "bob", "user"));
    drop(start(&world, &admin, "other"));
    drop(take(&admin, "other", &json!({ "tag": "admins" })));
    assert_eq!(tags(&alice.get("/v1/snapshots").ok(200).json()), [""; 0]);
    for path in ["/v1/snapshots/admins", "/v1/snapshots/admins/pool"] {
        alice.get(path).problem(404, "not-found");
        bob.delete(path).problem(404, "not-found");
    }
    bob.post("/v1/snapshots/admins/instantiate", &json!({})).problem(404, "not-found");
    bob.post("/v1/containers", &json!({ "snapshot": "admins" })).problem(404, "not-found");
    bob.post("/v1/vms/other/fork", &json!({})).problem(404, "not-found");
    bob.post("/v1/vms/other/snapshots", &json!({})).problem(404, "not-found");
    // A snapshot belongs to the owner of its machine, also if another user has requested it.
    admin.post("/v1/snapshots/admins/instantiate?wait=60", &json!({ "names": ["copy"] })).ok(201);
    admin.delete("/v1/users/alice").ok(200);
    manager.end();
    world.assert_removes_all();
}
