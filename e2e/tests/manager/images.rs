//! Images over HTTP.

use std::net::TcpListener;

use e2e::{Client, LOGIN, Manager, Registry, User, World, as_root_and_user, until};
use serde_json::{Value, json};

use crate::security::new_user;
use crate::slow_image::SlowImage;

fn encoded(name: &str) -> String {
    name.replace('/', "%2F").replace('@', "%40")
}

fn names(client: &Client) -> Vec<Value> {
    let listed = client.get("/v1/images").ok(200).json();
    listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|item| item["names"].as_array().cloned())
        .flatten()
        .collect()
}

as_root_and_user!(images_are_pulled_listed_and_removed, |world| {
    drop(world.busybox());
    let registry = Registry::start();
    let name = registry.push(&world.files().join("busybox"), "app");
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    assert_eq!(names(&client), [""; 0]);
    let done = client.post("/v1/images/pull?wait=120", &json!({ "reference": name })).ok(201).json();
    let image = done["item"]["image"].clone();
    assert_eq!((&image["names"], &image["in_use"]), (&json!([name]), &json!(false)), "{done}");
    assert_eq!(done["operation"]["resource"], json!({ "kind": "image", "id": image["id"] }));
    assert!(image["size_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{image}");
    assert_eq!(names(&client), [json!(name)]);
    let id = image["id"].as_str().expect("an id");
    for word in [encoded(&name), encoded(id), id["sha256:".len()..][..12].to_owned()] {
        assert_eq!(client.get(&format!("/v1/images/{word}")).ok(200).json()["item"], image);
    }
    // The registry is not needed for what the store has.
    drop(registry);
    let missing = json!({ "reference": name, "policy": "missing" });
    client.post("/v1/images/pull?wait=60", &missing).ok(201);
    client.post("/v1/images/pull?wait=60", &json!({ "reference": name, "policy": "newer" })).ok(201);
    let machine = client.create(&json!({ "name": "web", "image": name, "command": ["sleep", "1000"] }));
    let used = client.get(&format!("/v1/images/{}", encoded(&name))).ok(200).json()["item"].clone();
    assert_eq!(used["used_by"], json!([{ "kind": "machine", "id": machine["id"] }]), "{used}");
    let problem = client.delete(&format!("/v1/images/{}", encoded(&name))).problem(409, "image-in-use");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("machine web")), "{problem}");
    client.delete("/v1/vms/web?wait=60").ok(200);
    let removed = client.delete(&format!("/v1/images/{}", encoded(&name))).ok(200).json();
    assert_eq!(removed["item"]["deleted"], json!([id]), "{removed}");
    client.get(&format!("/v1/images/{}", encoded(&name))).problem(404, "not-found");
    client.delete(&format!("/v1/images/{}", encoded(&name))).problem(404, "not-found");
    let problem = client.post("/v1/images/pull?wait=60", &missing).problem(502, "registry-unreachable");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("cannot be reached")), "{problem}");
    manager.end();
    world.assert_empty();
});

#[test]
fn a_pull_that_fails_says_why() {
    let world = World::new(User::Root);
    drop(world.busybox());
    let (open, closed) = (Registry::start(), Registry::start_with_login());
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let pull = |request: Value| client.post("/v1/images/pull?wait=60", &request);
    pull(json!({ "reference": format!("{}/none:1", open.address) })).problem(422, "image-not-found");
    let credentials = format!("--dest-creds={}:{}", LOGIN.0, LOGIN.1);
    let name = closed.push_with(&[&credentials], &world.files().join("busybox"), "app");
    pull(json!({ "reference": name })).problem(422, "image-unauthorized");
    let wrong = json!({ "username": LOGIN.0, "password": "wrong" });
    pull(json!({ "reference": name, "auth": wrong })).problem(422, "image-unauthorized");
    let auth = json!({ "username": LOGIN.0, "password": LOGIN.1 });
    pull(json!({ "reference": name, "auth": auth, "registry": { "auth": auth } }))
        .problem(422, "invalid-field");
    pull(json!({ "reference": name, "registry": { "auth": auth } })).ok(201);
    pull(json!({ "reference": name, "auth": auth })).ok(201);
    pull(json!({ "reference": "example.invalid/none", "policy": "never" })).problem(422, "image-not-found");
    pull(json!({ "reference": "Not A Name" })).problem(422, "invalid-field");
    pull(json!({ "reference": name, "platform": "linux/s390x" })).problem(422, "invalid-field");
    pull(json!({ "reference": name, "platform": "nonsense" })).problem(422, "invalid-field");
    pull(json!({ "reference": "oci:/no/such/directory" })).problem(422, "image-not-found");
    client.post("/v1/images/pull", &json!({ "reference": name, "more": 1 })).problem(400, "invalid-body");
    // The password is neither stored nor shown.
    let operations = client.get("/v1/operations?limit=100").ok(200);
    assert!(!String::from_utf8_lossy(&operations.body).contains(LOGIN.1));
    let database = std::fs::read(world.home().join("mimeo.db")).expect("readable");
    assert!(!database.windows(LOGIN.1.len()).any(|bytes| bytes == LOGIN.1.as_bytes()));
    manager.end();
}

#[test]
fn a_cancelled_pull_leaves_nothing() {
    let world = World::new(User::Root);
    let slow = SlowImage::serve(&world);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let accepted = client.post("/v1/images/pull", &json!({ "reference": slow.reference })).ok(202);
    let operation = accepted.header("location").expect("a location").to_owned();
    let seen = until("the pull has begun", || {
        let item = client.get(&operation).ok(200).json()["item"].clone();
        (item["stage"] == "download" && slow.proxy.forwarded() > 0).then_some(item)
    });
    assert_eq!(seen["progress"]["unit"], "bytes", "{seen}");
    assert_eq!(seen["result"]["layers_total"], 1, "{seen}");
    let cancelled = client.delete(&operation).ok(200).json()["item"].clone();
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    assert_eq!(names(&client), [""; 0]);
    let blobs = std::fs::read_dir(world.home().join("images/blobs/sha256")).expect("readable").flatten();
    assert_eq!(blobs.count(), 0, "nothing is left of it");
    manager.end();
    world.assert_empty();
}

#[test]
fn a_killed_manager_continues_a_pull_later() {
    let world = World::new(User::Root);
    let slow = SlowImage::serve(&world);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let accepted = client.post("/v1/images/pull", &json!({ "reference": slow.reference })).ok(202).json();
    until("the pull has begun", || (slow.proxy.forwarded() > 0).then_some(()));
    manager.kill();
    slow.proxy.lift_limit();
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    let id = accepted["operation"]["id"].as_str().expect("an id");
    let done = client.get(&format!("/v1/operations/{id}/wait?timeout=120")).ok(200).json()["item"].clone();
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(names(&client), [json!(slow.reference)]);
    manager.end();
    world.assert_empty();
}

#[test]
fn users_pull_images_and_administrators_remove_them() {
    let world = World::new(User::Root);
    let layout = world.busybox();
    let registry = Registry::start();
    let name = registry.push(&world.files().join("busybox"), "app");
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    alice
        .post("/v1/images/pull?wait=60", &json!({ "reference": layout }))
        .problem(403, "host-files-forbidden");
    let file = json!({ "reference": name, "registry": { "auth_file": "/etc/passwd" } });
    alice.post("/v1/images/pull?wait=60", &file).problem(403, "host-files-forbidden");
    alice.post("/v1/images/pull?wait=60", &json!({ "reference": name })).ok(201);
    admin.post("/v1/images/pull?wait=60", &json!({ "reference": layout })).ok(201);
    drop(admin.create(&json!({ "name": "web", "image": name, "command": ["sleep", "1000"] })));
    let seen = alice.get(&format!("/v1/images/{}", encoded(&name))).ok(200).json()["item"].clone();
    assert_eq!((&seen["in_use"], &seen["used_by"]), (&json!(true), &json!([])), "{seen}");
    alice.delete(&format!("/v1/images/{}", encoded(&name))).problem(403, "forbidden");
    alice.post("/v1/images/prune", &json!({ "all": true })).problem(403, "forbidden");
    admin.delete("/v1/vms/web?wait=60").ok(200);
    let pruned = admin.post("/v1/images/prune", &json!({ "all": true })).ok(200).json();
    assert!(pruned["item"]["deleted"].as_array().is_some_and(|ids| !ids.is_empty()), "{pruned}");
    assert_eq!(names(&admin), [""; 0]);
    manager.end();
    world.assert_empty();
}

#[test]
fn a_registry_that_is_silent_is_unreachable() {
    let world = World::bare(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let reference = format!("127.0.0.1:{port}/none");
    client
        .post("/v1/images/pull?wait=60", &json!({ "reference": reference }))
        .problem(502, "registry-unreachable");
    manager.end();
}
