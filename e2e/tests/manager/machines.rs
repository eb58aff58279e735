//! Machines over HTTP, from their creation to their removal.

use e2e::{Client, Manager, User, World, as_root_and_user, on_both_databases};
use serde_json::{Value, json};

as_root_and_user!(a_machine_lives_over_http, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let machine =
        client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    assert_eq!(
        (&machine["state"], &machine["boot_method"]),
        (&json!("running"), &json!("warm")),
        "{machine}"
    );
    let result = client.sh("web", "hostname; echo oops >&2; exit 3");
    let short = &machine["id"].as_str().expect("an id")[..12];
    assert_eq!(result["stdout"], format!("{short}\n"), "{result}");
    assert_eq!((&result["stderr"], &result["exit_code"]), (&json!("oops\n"), &json!(3)));
    // The command line sees the same machine.
    world.mimeo(["exec", "web", "echo", "hello"]).ok().printed("hello\n");
    let listed = client.get("/v1/vms").ok(200).json();
    assert_eq!(listed["items"], json!([client.get("/v1/containers/web").ok(200).json()["item"]]));
    client.delete("/v1/vms/web?wait=60").ok(200);
    client.get("/v1/vms/web").problem(404, "not-found");
    let tombstone = client.get(&format!("/v1/vms/{}", machine["id"].as_str().expect("an id"))).ok(200).json();
    assert_eq!(tombstone["item"]["state"], "deleted", "{tombstone}");
    manager.end();
    world.assert_empty();
});

#[test]
fn a_removal_without_force_spares_what_runs() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let image = world.busybox();
    let machine = client.create(&json!({ "name": "web", "image": image, "command": ["sleep", "1000"] }));
    client.delete("/v1/vms/web?force=maybe").problem(400, "invalid-request");
    client.delete("/v1/vms/web?force=false").problem(409, "machine-running");
    client.post("/v1/vms/web/pause?wait=60", &json!({})).ok(200);
    client.delete("/v1/vms/web?force=false").problem(409, "machine-running");
    client.post("/v1/vms/web/resume?wait=60", &json!({})).ok(200);
    assert_eq!(client.sh("web", "echo hello")["stdout"], "hello\n");
    // It is stopped by another client.
    world.mimeo(["stop", "-t", "0", "web"]).ok();
    client.delete("/v1/vms/web?force=false&wait=60").ok(200);
    // Its events name the image.
    let path = format!("/v1/events?kind=machine&resource={}", machine["id"].as_str().expect("an id"));
    let events = client.get(&path).ok(200).json()["items"].clone();
    for kind in ["machine.running", "machine.paused", "machine.exited", "machine.deleted"] {
        let mut events = events.as_array().expect("a list").iter();
        let event =
            events.find(|event| event["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {events:?}"));
        assert_eq!(event["data"]["image"], image, "{event}");
    }
    manager.end();
    world.assert_empty();
}

/// The document has `If-Match` where it is honoured.
#[test]
fn a_change_of_another_version_is_refused_where_the_document_says_so() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let _machine =
        client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    client.post("/v1/vms/web/snapshots?wait=60", &json!({ "tag": "saved" })).ok(201);
    let document = client.get("/openapi.json").ok(200).json();
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, described) in item.as_object().expect("an item") {
            let parameters = described["parameters"].as_array().into_iter().flatten();
            if !parameters.clone().any(|parameter| parameter["name"] == "If-Match") {
                continue;
            }
            let name = if path.starts_with("/v1/snapshots/") { "saved" } else { "web" };
            let headers = [("content-type", "application/json"), ("if-match", "\"1000\"")];
            let path = path.replace("{id}", name);
            client
                .send(&method.to_uppercase(), &path, &headers, b"{\"labels\":{\"a\":\"b\"}}")
                .problem(412, "version-changed");
            refused += 1;
        }
    }
    assert_eq!(refused, 2 * 7 + 1, "both views of machines, and snapshots");
    assert_eq!(client.sh("web", "echo hello")["stdout"], "hello\n");
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_removes_all();
}

as_root_and_user!(machines_outlive_the_manager, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let image = world.busybox();
    let machine = client.create(&json!({ "name": "web", "image": image, "command": ["sleep", "1000"] }));
    let token = client.token().to_owned();
    manager.kill();
    world.mimeo(["exec", "web", "echo", "hello"]).ok().printed("hello\n");
    world.start(["--name", "other", &image, "sleep", "1000"]);
    let manager = Manager::start(world, &[]);
    assert_eq!(manager.token, None, "a token is made at the first start only");
    let client = manager.client(&token);
    let found = client.get("/v1/vms/web").ok(200).json()["item"].clone();
    assert_eq!((&found["id"], &found["state"]), (&machine["id"], &json!("running")));
    assert_eq!(client.get("/v1/vms/other").ok(200).json()["item"]["owner"], "local");
    for name in ["web", "other"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_empty();
});

/// Creates a machine that is not started, and returns its id.
fn create_only(client: &Client, world: &World, name: &str) -> String {
    let request = json!({ "name": name, "image": world.busybox(), "start": false });
    let made = client.post("/v1/vms?wait=60", &request).ok(201).json();
    made["item"]["id"].as_str().expect("an id").to_owned()
}

on_both_databases!(a_name_precedes_the_starts_of_ids, cold, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let client = manager.admin();
    // Until three ids begin with the same digit.
    let mut ids: Vec<String> = Vec::new();
    let digit = loop {
        ids.push(create_only(&client, world, &format!("m{}", ids.len())));
        let digit = ids[ids.len() - 1][..1].to_owned();
        if ids.iter().filter(|id| id.starts_with(&digit)).count() == 3 {
            break digit;
        }
    };
    // Until a machine of that name comes after them in the order of ids.
    let last = ids.iter().filter(|id| id.starts_with(&digit)).max().expect("three").clone();
    let named = loop {
        let id = create_only(&client, world, &digit);
        if id > last || digit == "f" {
            break id;
        }
        client.delete(&format!("/v1/vms/{id}?wait=60")).ok(200);
    };
    let get = |word: &str| client.get(&format!("/v1/vms/{word}"));
    assert_eq!(get(&digit).ok(200).json()["item"]["id"], *named);
    assert_eq!(get(&last[..12]).ok(200).json()["item"]["id"], *last);
    get("m-0").problem(404, "not-found");
    let listed: Value = client.get("/v1/vms?limit=1000").ok(200).json();
    for item in listed["items"].as_array().expect("a list") {
        client.delete(&format!("/v1/vms/{}?wait=60", item["id"].as_str().expect("an id"))).ok(200);
    }
    manager.end();
    world.assert_empty();
});
