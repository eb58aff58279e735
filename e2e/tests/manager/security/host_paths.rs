//! Where the manager's host keeps its files is told to its administrators only.

use e2e::{Client, Manager, User, World};
use serde_json::json;

use super::{client_with, new_user};

/// What shows the host, and the caller's own machines and snapshots.
const ROUTES: [&str; 16] = [
    "/v1/records/host",
    "/v1/records/machines",
    "/v1/records/machines/web",
    "/v1/records/images",
    "/v1/records/images/localhost%2Fbusybox",
    "/v1/records/snapshots",
    "/v1/records/snapshots/saved",
    "/v1/vms",
    "/v1/vms/web",
    "/v1/vms/web/metrics",
    "/v1/images",
    "/v1/snapshots",
    "/v1/runtime-snapshots",
    "/v1/volumes",
    "/v1/operations",
    "/v1/events",
];

/// Returns the routes whose answers tell where the world is.
fn telling(world: &World, client: &Client) -> Vec<&'static str> {
    let home = world.home();
    let dir = home.parent().and_then(|dir| dir.to_str()).expect("a path").to_owned();
    let tells = |path: &&str| String::from_utf8_lossy(&client.get(path).ok(200).body).contains(&dir);
    ROUTES.into_iter().filter(tells).collect()
}

#[test]
fn only_administrators_see_paths_of_the_host() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let admin = manager.admin();
    let alice = new_user(&admin, "alice", "user");
    let viewer = new_user(&admin, "eve", "viewer");
    let reader = client_with(&admin, &json!({ "user": "admin", "scopes": ["read"] }));
    world.mimeo(["pull", "--quiet", &world.busybox()]).ok();
    let request = json!({ "name": "web", "image": "localhost/busybox", "command": ["sleep", "1000"],
        "volumes": [{ "type": "volume", "source": "data", "target": "/data" }], "env": { "PASSWORD": "sesame" } });
    let _machine = alice.create(&request);
    alice.post("/v1/vms/web/snapshots?wait=60", &json!({ "tag": "saved" })).ok(201);
    for client in [&alice, &viewer, &reader] {
        assert_eq!(telling(&world, client), [""; 0]);
    }
    // Those who may not look into machines see no environment, which may be secret.
    for path in ["/v1/records/machines/web", "/v1/records/snapshots/saved", "/v1/records/snapshots"] {
        let tells =
            |client: &Client| String::from_utf8_lossy(&client.get(path).ok(200).body).contains("sesame");
        assert_eq!([&alice, &viewer, &reader].map(tells), [true, false, false], "{path}");
    }
    let shown = telling(&world, &admin);
    assert!(shown.contains(&"/v1/records/host") && shown.contains(&"/v1/records/machines/web"), "{shown:?}");
    // The rest is shown to all, and the command line can show it.
    let host = alice.get("/v1/records/host").ok(200).json()["item"].clone();
    assert!(host["info"]["host"]["memTotal"].is_u64() && host["version"]["Drivers"].is_array(), "{host}");
    let (address, token) = (manager.url.clone(), alice.token().to_owned());
    let remote = |arguments: &[&str]| {
        let mut command = world.command(["--host", &address].iter().chain(arguments));
        world.finish({
            command.env("MIMEO_TOKEN", &token);
            command
        })
    };
    let version = remote(&["version"]).ok();
    assert!(version.text().contains("Drivers:") && !version.text().contains("Home:"), "{version:?}");
    for arguments in
        [&["info"][..], &["ps"], &["inspect", "web"], &["images"], &["snapshot", "inspect", "saved"]]
    {
        remote(arguments).ok();
    }
    alice.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_removes_all();
}
