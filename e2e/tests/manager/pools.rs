//! Pools of clones over HTTP.

use e2e::{Client, Manager, User, World, as_root_and_user, on_both_databases, until};
use serde_json::{Value, json};

/// Starts a machine, takes a snapshot `warm` of it, and removes it.
fn prepare(world: &World, client: &Client) {
    let request = json!({
        "name": "web", "image": world.busybox(), "command": ["sleep", "1000"],
        "restart": { "policy": "always" }, "labels": { "a": "b" },
    });
    drop(client.create(&request));
    client.post("/v1/vms/web/snapshots?wait=60", &json!({ "tag": "warm" })).ok(201);
    client.delete("/v1/vms/web?wait=60").ok(200);
}

fn pool(client: &Client) -> Value {
    client.get("/v1/snapshots/warm/pool").ok(200).json()["item"].clone()
}

fn fill(client: &Client, size: u32) -> Value {
    let pool = client.json("PUT", "/v1/snapshots/warm/pool?wait=120", &json!({ "size": size }));
    let pool = pool.ok(200).json()["item"].clone();
    assert_eq!((&pool["state"], &pool["ready"]), (&json!("ready"), &json!(size)), "{pool}");
    pool
}

/// Starts a clone, and returns its machine.
fn take(client: &Client, request: &Value) -> Value {
    let done = client.post("/v1/snapshots/warm/instantiate?wait=60", request).ok(201).json();
    done["operation"]["result"]["clones"][0]["machine"].clone()
}

/// The ids of the machines that wait in the pool.
fn waiting(world: &World) -> Vec<String> {
    let dirs = std::fs::read_dir(world.home().join("machines")).expect("readable").flatten();
    let records = dirs.filter_map(|dir| std::fs::read(dir.path().join("machine.json")).ok());
    let records = records.filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let waiting = records.filter(|record| record["waiting"] == true);
    waiting.map(|record| record["id"].as_str().expect("an id").to_owned()).collect()
}

as_root_and_user!(clones_are_taken_from_a_pool_and_outlive_it, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    prepare(world, &client);
    let before = fill(&client, 1);
    // Those that wait are no machines of users.
    assert_eq!(client.get("/v1/vms").ok(200).json()["items"], json!([]));
    let ready = waiting(world);
    let one = take(&client, &json!({ "names": ["one"], "env": { "WHO": "one" }, "labels": { "c": "d" } }));
    assert_eq!(json!(ready), json!([one["id"]]));
    assert_eq!(
        (&one["state"], &one["owner"], &one["name"]),
        (&json!("running"), &json!("admin"), &json!("one")),
        "{one}"
    );
    assert_eq!((&one["labels"], &one["restart"]), (&json!({ "c": "d" }), &json!("always")), "{one}");
    assert_eq!(client.sh("one", "echo $WHO")["stdout"], "one\n");
    until("the pool is full again", || (pool(&client)["ready"] == 1).then_some(()));
    // The pool outlives the manager, and is found again.
    manager.kill();
    let manager = Manager::start(world, &[]);
    let client = manager.client(client.token());
    until("it is found", || (pool(&client)["pid"] == before["pid"]).then_some(()));
    let ready = waiting(world);
    let request = json!({ "name": "two", "snapshot": "warm" });
    let two = client.create(&request);
    assert_eq!(json!(ready), json!([two["id"]]));
    assert_eq!(two["labels"], json!({ "a": "b" }), "{two}");
    client.delete("/v1/snapshots/warm").problem(409, "snapshot-in-use");
    client.delete("/v1/snapshots/warm/pool").ok(200);
    client.get("/v1/snapshots/warm/pool").problem(404, "not-found");
    until("nothing waits", || waiting(world).is_empty().then_some(()));
    for name in ["one", "two"] {
        assert_eq!(client.sh(name, "echo hello")["stdout"], "hello\n");
    }
    // They are machines like any other: stopped, started, removed.
    client.post("/v1/vms/one/restart?timeout=0&wait=60", &json!({})).ok(200);
    assert_eq!(client.sh("one", "echo $WHO")["stdout"], "one\n");
    client.delete("/v1/snapshots/warm").ok(200);
    for name in ["one", "two"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_empty();
});

on_both_databases!(a_pool_that_is_too_small_is_no_limit, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let client = manager.admin();
    prepare(world, &client);
    drop(fill(&client, 1));
    let done = client.post("/v1/snapshots/warm/instantiate?wait=120", &json!({ "count": 3 })).ok(201).json();
    let clones = done["operation"]["result"]["clones"].as_array().expect("a list").clone();
    assert!(clones.iter().all(|clone| clone["machine"]["state"] == "running"), "{done}");
    // Another size: the server is replaced, and the clones run on.
    drop(fill(&client, 2));
    for clone in &clones {
        let id = clone["id"].as_str().expect("an id");
        assert_eq!(client.sh(id, "echo hello")["stdout"], "hello\n");
        client.delete(&format!("/v1/vms/{id}?wait=60")).ok(200);
    }
    client.json("PUT", "/v1/snapshots/warm/pool", &json!({ "size": 0 })).problem(422, "invalid-field");
    client.json("PUT", "/v1/snapshots/warm/pool", &json!({ "size": 1000 })).problem(422, "invalid-field");
    client.json("PUT", "/v1/snapshots/warm/pool", &json!({})).problem(400, "invalid-body");
    client.json("PUT", "/v1/snapshots/none/pool", &json!({ "size": 1 })).problem(404, "not-found");
    client.delete("/v1/snapshots/warm/pool").ok(200);
    client.delete("/v1/snapshots/warm").ok(200);
    manager.end();
    world.assert_empty();
});

#[test]
fn a_pool_whose_process_is_killed_is_kept_on() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    prepare(&world, &client);
    let before = fill(&client, 1);
    let one = take(&client, &json!({}));
    let pid = i32::try_from(before["pid"].as_i64().expect("a PID")).expect("a PID");
    let pid = rustix::process::Pid::from_raw(pid).expect("a PID");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    // The clone that was taken runs on, and others are started without the pool.
    let id = one["id"].as_str().expect("an id");
    assert_eq!(client.sh(id, "echo hello")["stdout"], "hello\n");
    let two = take(&client, &json!({}));
    assert_eq!(two["state"], "running", "{two}");
    until("the pool is kept by another process", || {
        let now = pool(&client);
        (now["state"] == "ready" && now["pid"] != before["pid"]).then_some(())
    });
    client.delete("/v1/snapshots/warm/pool").ok(200);
    for machine in [one, two] {
        client.delete(&format!("/v1/vms/{}?wait=60", machine["id"].as_str().expect("an id"))).ok(200);
    }
    client.delete("/v1/snapshots/warm").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn a_server_that_releases_its_clones_lets_them_run_on() {
    let world = World::new(User::Root);
    world.start(["--name", "web", &world.busybox(), "sleep", "1000"]);
    world.snapshot("web", "saved");
    world.mimeo(["rm", "-f", "web"]).ok();
    let server = world.serve(&["saved", "--release", "--pool", "1"]);
    until("the pool is full", || world.server_status(&server.id).filter(|serve| serve["ready"] == 1));
    for name in ["one", "two"] {
        drop(world.clones(&["--pid", &server.pid, "--name", name]));
    }
    server.end(rustix::process::Signal::TERM);
    for name in ["one", "two"] {
        assert_eq!(world.sh(name, "echo hello"), "hello");
    }
    world.mimeo(["snapshot", "serve", "saved", "--release", "--pager"]).code(125);
    world.assert_removes_all();
}
