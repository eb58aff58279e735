//! Forks over HTTP: all clones or none.

use e2e::{Client, Manager, User, World, as_root_and_user, until};
use serde_json::{Value, json};

fn start(world: &World, client: &Client) {
    let script = "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.05; done";
    drop(client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sh", "-c", script] })));
    until("it counts", || (client.sh("web", "cat /count")["stdout"] != "").then_some(()));
}

fn remove(client: &Client, names: &[&str]) {
    for name in names {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
}

/// Removes what is left of forks whose clones are gone.
fn finish(world: &World, manager: Manager) {
    manager.end();
    world.mimeo(["snapshot", "prune"]).ok();
    world.assert_empty();
}

as_root_and_user!(a_machine_is_forked, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    start(world, &client);
    let request = json!({ "names": ["one", "two"], "env": { "WHO": "clone" }, "labels": { "a": "b" }, "ttl_seconds": 1000 });
    let done = client.post("/v1/vms/web/fork?wait=120", &request).ok(201).json();
    assert_eq!((&done["item"]["name"], &done["item"]["state"]), (&json!("web"), &json!("running")), "{done}");
    let result = &done["operation"]["result"];
    assert!(result["pause_ms"].as_f64().is_some_and(|pause| pause > 0.0), "{result}");
    for (clone, name) in result["clones"].as_array().expect("a list").iter().zip(["one", "two"]) {
        let machine = client.get(&format!("/v1/vms/{name}")).ok(200).json()["item"].clone();
        assert_eq!((&machine["id"], &machine["owner"]), (&clone["id"], &json!("admin")));
        assert_eq!((&machine["labels"], &machine["boot_method"]), (&json!({ "a": "b" }), &json!("clone")));
        assert!(machine["expires_at"].is_string(), "{machine}");
        assert_eq!(client.sh(name, "echo $WHO")["stdout"], "clone\n");
    }
    // A fork's own snapshot is not one of the user's.
    assert_eq!(client.get("/v1/snapshots").ok(200).json()["items"], json!([]));
    client.post("/v1/vms/web/fork", &json!({ "names": ["three", "two"] })).problem(409, "name-taken");
    client.post("/v1/vms/web/fork", &json!({ "count": 1001 })).problem(422, "invalid-field");
    client.post("/v1/vms/web/stop?timeout=0&wait=60", &json!({})).ok(200);
    client.post("/v1/vms/web/fork", &json!({})).problem(409, "machine-not-running");
    remove(&client, &["web", "one", "two"]);
    finish(world, manager);
});

#[test]
fn a_fork_that_fails_leaves_no_clone() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    start(&world, &client);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ports = json!([{ "container_port": 80, "host_port": port, "host_ip": "127.0.0.1" }]);
    let accepted =
        client.post("/v1/vms/web/fork", &json!({ "names": ["one"], "ports": ports })).ok(202).json();
    let id = accepted["operation"]["id"].as_str().expect("an id");
    let done = client.get(&format!("/v1/operations/{id}/wait?timeout=120")).ok(200).json()["item"].clone();
    assert_eq!(
        (&done["status"], &done["error"]["code"]),
        (&json!("failed"), &json!("port-in-use")),
        "{done}"
    );
    assert_eq!(done["result"]["clones"][0]["problem"]["code"], "port-in-use", "{done}");
    client.get("/v1/vms/one").problem(404, "not-found");
    let clone = done["result"]["clones"][0]["id"].as_str().expect("an id");
    let tombstone = client.get(&format!("/v1/vms/{clone}")).ok(200).json()["item"].clone();
    assert_eq!(tombstone["state"], "deleted", "{tombstone}");
    // The source runs on, and its name is free for another fork.
    drop(listener);
    client.post("/v1/vms/web/fork?wait=120", &json!({ "names": ["one"], "ports": ports })).ok(201);
    remove(&client, &["web", "one"]);
    finish(&world, manager);
}

#[test]
fn a_killed_manager_finishes_a_fork_once() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    start(&world, &client);
    let mut names = Vec::new();
    // Killed at several moments: before, while and after the clones are started.
    let mut manager = Some(manager);
    for (index, delay) in [0, 50, 200, 500].into_iter().enumerate() {
        let client = manager.as_ref().expect("a manager").client(client.token());
        let clones = [format!("a{index}"), format!("b{index}")];
        let accepted = client.post("/v1/vms/web/fork", &json!({ "names": clones })).ok(202).json();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        manager.take().expect("a manager").kill();
        let next = Manager::start(&world, &[]);
        let client = next.client(client.token());
        let id = accepted["operation"]["id"].as_str().expect("an id");
        let done =
            client.get(&format!("/v1/operations/{id}/wait?timeout=120")).ok(200).json()["item"].clone();
        assert_eq!(done["status"], "succeeded", "{done}");
        names.extend(clones);
        manager = Some(next);
        let running: Vec<Value> =
            client.get("/v1/vms?state=running").ok(200).json()["items"].as_array().expect("a list").clone();
        assert_eq!(running.len(), names.len() + 1, "{running:#?}");
    }
    let manager = manager.expect("a manager");
    let client = manager.client(client.token());
    names.push("web".to_owned());
    remove(&client, &names.iter().map(String::as_str).collect::<Vec<_>>());
    finish(&world, manager);
}

#[test]
fn a_clone_can_be_removed_while_it_is_made() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    start(&world, &client);
    let accepted = client.post("/v1/vms/web/fork", &json!({ "names": ["one", "two"] })).ok(202).json();
    let one = accepted["operation"]["result"]["clones"][0]["id"].as_str().expect("an id");
    client.delete(&format!("/v1/vms/{one}?wait=120")).ok(200);
    client.get("/v1/vms/one").problem(404, "not-found");
    assert_eq!(client.sh("two", "echo hello")["stdout"], "hello\n");
    // The source can be removed meanwhile, too.
    let accepted = client.post("/v1/vms/web/fork", &json!({ "names": ["three"] })).ok(202).json();
    client.delete("/v1/vms/web?wait=120").ok(200);
    let id = accepted["operation"]["id"].as_str().expect("an id");
    let done = client.get(&format!("/v1/operations/{id}/wait?timeout=120")).ok(200).json()["item"].clone();
    assert_eq!(done["status"], "succeeded", "{done}");
    remove(&client, &["two", "three"]);
    finish(&world, manager);
}
