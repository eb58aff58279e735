//! Machines over HTTP, from their creation to their removal.

use e2e::{Manager, as_root_and_user};
use serde_json::json;

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
