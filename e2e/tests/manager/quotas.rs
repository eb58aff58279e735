//! Quotas of users.

use e2e::{Answer, Client, Manager, User, World, on_both_databases, until};
use serde_json::{Value, json};

use crate::security::new_user;
use crate::slow_image::{SlowImage, begin_creation};

const REFUSED: (u16, &str) = (403, "quota-exceeded");

fn set(admin: &Client, quota: &Value) {
    admin.json("PUT", "/v1/users/alice/quota", quota).ok(200);
}

fn usage(client: &Client) -> Value {
    client.get("/v1/quota").ok(200).json()["item"]["usage"].clone()
}

fn refused(client: &Client, path: &str, request: &Value, what: &str) {
    let problem = client.post(path, request).problem(REFUSED.0, REFUSED.1);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("alice") && detail.contains(what), "{detail}");
}

on_both_databases!(a_quota_is_one_users, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let (alice, bob) = (new_user(&admin, "alice", "user"), new_user(&admin, "bob", "user"));
    world.mimeo(["pull", "--quiet", &world.busybox()]).ok();
    let request = json!({ "image": "localhost/busybox", "command": ["sleep", "1000"], "start": false });
    set(&admin, &json!({ "machines": 2, "memory_mib": 2048 }));
    // Of several requests at once, as many as are allowed succeed.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let create = || alice.post("/v1/vms?wait=60", &request);
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().expect("answered")).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem(REFUSED.0, REFUSED.1);
    }
    assert_eq!((&usage(&alice)["machines"], &usage(&alice)["memory_mib"]), (&json!(2), &json!(1024)));
    bob.post("/v1/vms?wait=60", &request).ok(201);
    assert_eq!(usage(&bob)["machines"], 1);
    // A removal makes room, for machines that fit.
    let first = alice.get("/v1/vms?limit=1").ok(200).json()["items"][0]["id"].clone();
    alice.delete(&format!("/v1/vms/{}?wait=60", first.as_str().expect("an id"))).ok(200);
    let mut large = request.clone();
    large["memory_mib"] = json!(1537);
    refused(&alice, "/v1/vms", &large, "MiB of memory");
    large["memory_mib"] = json!(1536);
    alice.post("/v1/vms?wait=60", &large).ok(201);
    refused(&alice, "/v1/vms", &request, "machines");
    // A smaller quota leaves what exists alone.
    set(&admin, &json!({ "machines": 0 }));
    assert_eq!(usage(&alice)["machines"], 2);
    refused(&alice, "/v1/vms", &request, "machines");
    set(&admin, &json!({}));
    alice.post("/v1/vms?wait=60", &request).ok(201);
    // Bad input.
    for (quota, code) in [(json!({ "machines": -1 }), 400), (json!({ "more": 1 }), 400)] {
        admin.json("PUT", "/v1/users/alice/quota", &quota).problem(code, "invalid-body");
    }
    admin.json("PUT", "/v1/users/nobody/quota", &json!({})).problem(404, "not-found");
    alice.json("PUT", "/v1/users/alice/quota", &json!({})).problem(403, "forbidden");
    for item in admin.get("/v1/vms").ok(200).json()["items"].as_array().expect("a list") {
        admin.delete(&format!("/v1/vms/{}?wait=60", item["id"].as_str().expect("an id"))).ok(200);
    }
    manager.end();
    world.assert_empty();
});

#[test]
fn a_machine_counts_while_it_is_being_created() {
    let world = World::new(User::Root);
    let slow = SlowImage::serve(&world);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    set(&admin, &json!({ "machines": 1 }));
    begin_creation(&alice, &slow.request("slow"));
    assert_eq!(usage(&alice)["machines"], 1);
    refused(&alice, "/v1/containers", &slow.request("second"), "machines");
    alice.delete("/v1/vms/slow?wait=60").ok(200);
    assert_eq!(usage(&alice)["machines"], 0);
    // What could not be created uses nothing.
    let missing = json!({ "image": "localhost/missing", "pull": "never" });
    assert!(alice.post("/v1/containers?wait=60", &missing).status >= 400);
    assert_eq!(usage(&alice)["machines"], 0);
    manager.end();
    drop(admin);
    world.assert_empty();
}

#[test]
fn clones_count_before_they_are_made() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    world.mimeo(["pull", "--quiet", &world.busybox()]).ok();
    let request = json!({ "name": "web", "image": "localhost/busybox", "command": ["sleep", "1000"] });
    let _machine = alice.create(&request);
    set(&admin, &json!({ "machines": 2 }));
    refused(&alice, "/v1/vms/web/fork", &json!({ "count": 2 }), "machines");
    let listed = alice.get("/v1/vms").ok(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    alice.post("/v1/vms/web/fork?wait=60", &json!({ "names": ["copy"] })).ok(201);
    refused(&alice, "/v1/vms/web/fork", &json!({ "count": 1 }), "machines");
    for name in ["copy", "web"] {
        alice.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_removes_all();
}

/// Sends the same request several times at once, and returns how many were not refused.
fn count_admitted(count: usize, send: impl Fn(usize) -> Answer + Sync) -> usize {
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn({
                    let send = &send;
                    move || send(index)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("answered")).collect()
    });
    let (admitted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status < 300);
    for answer in refused {
        answer.problem(REFUSED.0, REFUSED.1);
    }
    admitted.len()
}

on_both_databases!(a_quota_covers_volumes, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let (alice, bob) = (new_user(&admin, "alice", "user"), new_user(&admin, "bob", "user"));
    let size = 64_u64 << 20;
    set(&admin, &json!({ "volumes": 2, "volume_bytes": 3 * size }));
    let request = |name: &str, size: u64| json!({ "name": name, "size_bytes": size });
    let create = |index| alice.post("/v1/volumes", &request(&format!("data-{index}"), size));
    assert_eq!(count_admitted(6, create), 2);
    assert_eq!((&usage(&alice)["volumes"], &usage(&alice)["volume_bytes"]), (&json!(2), &json!(2 * size)));
    refused(&alice, "/v1/volumes", &request("more", size), "volumes");
    set(&admin, &json!({ "volume_bytes": 3 * size }));
    refused(&alice, "/v1/volumes", &request("more", 2 * size), "bytes of volumes");
    // A volume that is made for a machine counts, too.
    let mount = json!([{ "type": "volume", "source": "claimed", "target": "/data" }]);
    let machine = json!({ "name": "web", "image": "localhost/none", "volumes": mount });
    refused(&alice, "/v1/vms", &machine, "bytes of volumes");
    bob.post("/v1/volumes", &request("bobs", size)).ok(201);
    assert_eq!(usage(&bob)["volumes"], 1);
    for item in admin.get("/v1/volumes").ok(200).json()["items"].as_array().expect("a list") {
        admin.delete(&format!("/v1/volumes/{}", item["name"].as_str().expect("a name"))).ok(200);
    }
    assert_eq!((&usage(&alice)["volumes"], &usage(&alice)["volume_bytes"]), (&json!(0), &json!(0)));
    manager.end();
    world.assert_empty();
});

on_both_databases!(a_quota_covers_snapshots_and_pools, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    world.mimeo(["pull", "--quiet", &world.busybox()]).ok();
    let request = json!({
        "name": "web", "image": "localhost/busybox", "command": ["sleep", "1000"], "memory_mib": 256,
    });
    let _machine = alice.create(&request);
    let memory = 256_u64 << 20;
    let path = "/v1/vms/web/snapshots?wait=120";
    // Until it is taken, it counts with the machine's memory.
    set(&admin, &json!({ "snapshot_bytes": memory - 1 }));
    refused(&alice, path, &json!({}), "bytes of snapshots");
    set(&admin, &json!({ "snapshots": 1, "snapshot_bytes": memory }));
    alice.post(path, &json!({ "tag": "warm" })).ok(201);
    refused(&alice, path, &json!({}), "snapshots");
    let taken = usage(&alice);
    let bytes = taken["snapshot_bytes"].as_u64().expect("bytes");
    assert!(taken["snapshots"] == 1 && bytes > 0 && bytes < memory, "{taken}");
    // Clones that wait in a pool are machines.
    let put = |size: u32| alice.json("PUT", "/v1/snapshots/warm/pool?wait=120", &json!({ "size": size }));
    set(&admin, &json!({ "machines": 2, "memory_mib": 512 }));
    let problem = put(2).problem(REFUSED.0, REFUSED.1);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("machines")), "{problem}");
    put(1).ok(200);
    let full = usage(&alice);
    assert_eq!((&full["machines"], &full["memory_mib"]), (&json!(2), &json!(512)), "{full}");
    refused(&alice, "/v1/snapshots/warm/instantiate", &json!({}), "machines");
    alice.delete("/v1/snapshots/warm/pool").ok(200);
    assert_eq!(usage(&alice)["machines"], 1);
    alice.delete("/v1/snapshots/warm").ok(200);
    assert_eq!((&usage(&alice)["snapshots"], &usage(&alice)["snapshot_bytes"]), (&json!(0), &json!(0)));
    alice.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
});

on_both_databases!(a_volume_is_recorded_before_it_is_made, new, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    alice.post("/v1/volumes", &json!({ "name": "kept" })).ok(201);
    // No volume is made while the store is locked.
    let lock = std::fs::File::create(world.home().join("volumes/.lock")).expect("a file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let requests = [
        ("/v1/volumes", json!({ "name": "asked" })),
        (
            "/v1/vms",
            json!({
                "image": "localhost/none", "volumes": [{ "type": "volume", "source": "claimed", "target": "/data" }],
            }),
        ),
    ];
    std::thread::scope(|scope| {
        let (alice, count) = (&alice, requests.len());
        for (path, request) in &requests {
            let body = serde_json::to_vec(request).expect("JSON");
            let headers = [("content-type", "application/json")];
            scope.spawn(move || {
                assert!(alice.try_send("POST", path, &headers, &body).is_err(), "it was killed")
            });
        }
        until("they are recorded", || (usage(alice)["volumes"] == 1 + count).then_some(()));
        manager.kill();
    });
    drop(lock);
    let manager = Manager::start_on(world, database, &[]);
    let (admin, alice) = (manager.client(admin.token()), manager.client(alice.token()));
    let listed = alice.get("/v1/volumes").ok(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed["items"][0]["name"], &usage(&alice)["volumes"]), (&json!("kept"), &json!(1)));
    let events = admin.get("/v1/events?limit=1000").ok(200).json();
    for name in ["asked", "claimed"] {
        let of_it = |kind: &str, actor: &str| {
            let mut events = events["items"].as_array().expect("a list").iter();
            events.any(|event| {
                event["kind"] == kind && event["actor"] == actor && event["resource"]["id"] == name
            })
        };
        assert!(
            of_it("volume.create_requested", "alice") && of_it("volume.removed", "manager"),
            "{events:#}"
        );
    }
    alice.delete("/v1/volumes/kept").ok(200);
    manager.end();
    world.assert_empty();
});
