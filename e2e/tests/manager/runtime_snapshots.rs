//! Boot snapshots and volumes over HTTP.

use e2e::{Manager, User, World, as_root_and_user, on_both_databases};
use serde_json::json;

use crate::security::new_user;

as_root_and_user!(boot_snapshots_are_made_made_again_and_removed, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let request = json!({ "memory_mib": 128, "driver": "qemu" });
    let done = client.post("/v1/runtime-snapshots?wait=120", &request).ok(201).json();
    let made = done["item"]["runtime_snapshot"].clone();
    assert_eq!(
        (&made["memory_mib"], &made["cpus"], &made["current"]),
        (&json!(128), &json!(1), &json!(true)),
        "{done}"
    );
    assert_eq!(done["operation"]["resource"], json!({ "kind": "runtime_snapshot", "id": made["id"] }));
    // It exists already.
    let again = client.post("/v1/runtime-snapshots?wait=120", &request).ok(201).json();
    assert_eq!(again["item"]["runtime_snapshot"], made);
    let listed = client.get("/v1/runtime-snapshots").ok(200).json();
    assert!(listed["items"].as_array().expect("a list").contains(&made), "{listed}");
    let machine = client.create(&json!({
        "name": "web", "image": world.busybox(), "command": ["sleep", "1000"], "memory_mib": 128, "driver": "qemu",
    }));
    assert_eq!((&machine["boot_method"], &machine["snapshot"]), (&json!("warm"), &made["id"]), "{machine}");
    let tag = made["tag"].as_str().expect("a tag");
    assert_eq!(client.get(&format!("/v1/runtime-snapshots/{tag}")).ok(200).json()["item"]["machines"], 1);
    client.delete("/v1/vms/web?wait=60").ok(200);
    let rebuilt =
        client.post(&format!("/v1/runtime-snapshots/{tag}/rebuild?wait=120"), &json!({})).ok(200).json();
    let rebuilt = rebuilt["item"]["runtime_snapshot"].clone();
    assert_eq!((&rebuilt["tag"], &rebuilt["cpus"]), (&made["tag"], &made["cpus"]), "{rebuilt}");
    assert_ne!(rebuilt["id"], made["id"]);
    let old = made["id"].as_str().expect("an id");
    client.get(&format!("/v1/runtime-snapshots/{old}")).problem(404, "not-found");
    client.delete(&format!("/v1/runtime-snapshots/{tag}")).ok(200);
    client.get(&format!("/v1/runtime-snapshots/{tag}")).problem(404, "not-found");
    client.delete(&format!("/v1/runtime-snapshots/{tag}")).problem(404, "not-found");
    for bad in [json!({ "cpus": 0 }), json!({ "memory_mib": 1 }), json!({ "driver": "none" })] {
        client.post("/v1/runtime-snapshots", &bad).problem(422, "invalid-field");
    }
    client.post("/v1/runtime-snapshots", &json!({ "size": 1 })).problem(400, "invalid-body");
    manager.end();
    world.assert_empty();
});

#[test]
fn a_boot_snapshot_that_snapshots_are_built_on_is_kept() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let machine =
        client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    let boot = machine["snapshot"].as_str().expect("a snapshot").to_owned();
    client.post("/v1/vms/web/snapshots?wait=60", &json!({ "tag": "warm" })).ok(201);
    let problem = client.delete(&format!("/v1/runtime-snapshots/{boot}")).problem(409, "snapshot-in-use");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("snapshot warm")), "{problem}");
    let user = new_user(&client, "alice", "user");
    user.get(&format!("/v1/runtime-snapshots/{boot}")).ok(200);
    user.delete(&format!("/v1/runtime-snapshots/{boot}")).problem(403, "forbidden");
    user.post("/v1/runtime-snapshots", &json!({})).problem(403, "forbidden");
    // Made again, it gives its tag up, stays for the snapshot, and is removed after it.
    let rebuilt =
        client.post(&format!("/v1/runtime-snapshots/{boot}/rebuild?wait=120"), &json!({})).ok(200).json();
    assert_ne!(rebuilt["item"]["runtime_snapshot"]["id"], boot.as_str(), "{rebuilt}");
    let has_old = || world.home().join("snapshots").join(&boot[..12]).exists();
    assert!(has_old());
    client.delete("/v1/vms/web?wait=60").ok(200);
    client.delete("/v1/snapshots/warm").ok(200);
    world.mimeo(["ps"]).ok();
    assert!(!has_old());
    manager.end();
    world.assert_removes_all();
}

on_both_databases!(volumes_have_owners, with_volumes, |world, database| {
    let registry = e2e::Registry::start();
    drop(world.busybox());
    let image = registry.push(&world.files().join("busybox"), "app");
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let (alice, bob) = (new_user(&admin, "alice", "user"), new_user(&admin, "bob", "user"));
    let request = json!({ "name": "data", "size_bytes": 100_000_000, "labels": { "a": "b" } });
    let made = alice.post("/v1/volumes", &request).ok(201);
    assert_eq!(made.header("location"), Some("/v1/volumes/data"));
    let made = made.json()["item"].clone();
    assert_eq!((&made["owner"], &made["labels"]), (&json!("alice"), &json!({ "a": "b" })), "{made}");
    alice.post("/v1/volumes", &request).problem(409, "volume-exists");
    alice.post("/v1/volumes", &json!({ "name": "../x" })).problem(422, "invalid-field");
    alice.post("/v1/volumes", &json!({ "size_bytes": 1 })).problem(422, "invalid-field");
    assert_eq!(bob.get("/v1/volumes").ok(200).json()["items"], json!([]));
    assert_eq!(alice.get("/v1/volumes?label=a%3Db").ok(200).json()["items"], json!([made]));
    bob.get("/v1/volumes/data").problem(404, "not-found");
    bob.delete("/v1/volumes/data").problem(404, "not-found");
    let machine = |name: &str, volume: &str| {
        let volumes = json!([{ "type": "volume", "source": volume, "target": "/data" }]);
        json!({ "name": name, "image": image, "command": ["sleep", "1000"], "volumes": volumes })
    };
    bob.post("/v1/containers", &machine("thief", "data")).problem(404, "not-found");
    let web = alice.create(&machine("web", "data"));
    let problem = alice.delete("/v1/volumes/data").problem(409, "volume-in-use");
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.contains(web["id"].as_str().expect("an id"))),
        "{problem}"
    );
    // A volume that a machine needs and that does not exist is its owner's.
    drop(bob.create(&machine("bobs", "new")));
    assert_eq!(bob.get("/v1/volumes/new").ok(200).json()["item"]["owner"], "bob");
    world.mimeo(["volume", "create", "by-hand"]).ok();
    assert_eq!(admin.get("/v1/volumes/by-hand").ok(200).json()["item"]["owner"], "local");
    for name in ["web", "bobs"] {
        admin.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    let problem = admin.delete("/v1/users/bob").problem(409, "user-has-resources");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("the volume new")), "{problem}");
    admin.delete("/v1/users/bob?new_owner=alice").ok(200);
    assert_eq!(alice.get("/v1/volumes/new").ok(200).json()["item"]["owner"], "alice");
    for name in ["data", "new", "by-hand"] {
        admin.delete(&format!("/v1/volumes/{name}")).ok(200);
    }
    // Another volume of that name is another one.
    world.mimeo(["volume", "create", "data"]).ok();
    alice.get("/v1/volumes/data").problem(404, "not-found");
    admin.delete("/v1/volumes/data").ok(200);
    manager.end();
    world.assert_empty();
});
