//! What machines use, their processes and ports, and changes of them.

use std::io::{Read, Write};
use std::net::TcpStream;

use e2e::{Client, Manager, User, World, as_root_and_user, until};
use serde_json::{Value, json};

fn machine(world: &World, client: &Client) -> Value {
    client.create(&json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"] }))
}

fn item(client: &Client, path: &str) -> Value {
    client.get(path).ok(200).json()["item"].clone()
}

as_root_and_user!(figures_come_from_the_guest_or_from_the_vmm, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    drop(machine(world, &client));
    drop(client.sh("m", "dd if=/dev/zero of=/big bs=1M count=8; sync"));
    let metrics = item(&client, "/v1/vms/m/metrics");
    assert_eq!((&metrics["source"], &metrics["processes"]), (&json!("agent"), &json!(1)), "{metrics}");
    let positive = |value: &Value| value.as_u64().expect("a number") > 0;
    for name in ["cpu_micros", "memory_bytes", "memory_limit_bytes"] {
        assert!(positive(&metrics[name]), "{name}: {metrics}");
    }
    for name in ["cpu_user_micros", "memory_total_bytes", "disk_used_bytes"] {
        assert!(positive(&metrics["guest"][name]), "{name}: {metrics}");
    }
    assert!(metrics["guest"]["disk_written_bytes"].as_u64().expect("a number") >= 8 << 20, "{metrics}");
    assert!(positive(&metrics["vmm"]["pss_bytes"]) && positive(&metrics["supervisor"]["pid"]), "{metrics}");
    let top = client.get("/v1/vms/m/top").ok(200).json();
    assert_eq!(
        (&top["items"][0]["command"], &top["items"][0]["user"]),
        (&json!("sleep 1000"), &json!("root"))
    );
    client.post("/v1/vms/m/pause?wait=60", &json!({})).ok(200);
    let metrics = item(&client, "/v1/vms/m/metrics");
    assert_eq!((&metrics["source"], &metrics["guest"]), (&json!("vmm"), &Value::Null));
    assert!(positive(&metrics["cpu_micros"]) && positive(&metrics["memory_bytes"]), "{metrics}");
    client.get("/v1/vms/m/top").problem(409, "machine-paused");
    client.post("/v1/vms/m/resume?wait=60", &json!({})).ok(200);
    client.post("/v1/vms/m/kill", &json!({ "signal": "NONE" })).problem(422, "invalid-field");
    client.post("/v1/vms/m/kill", &json!({ "signal": "KILL" })).ok(200);
    assert_eq!(requested(&client, "machine.kill_requested"), [json!({ "signal": 9 })]);
    let exited = item(&client, "/v1/vms/m/wait?state=exited");
    assert_eq!(exited["exit"]["code"], 137);
    for path in ["metrics", "top", "guest-ip"] {
        client.get(&format!("/v1/vms/m/{path}")).problem(409, "machine-not-running");
    }
    client.post("/v1/vms/m/kill", &json!({})).problem(409, "machine-not-running");
});

as_root_and_user!(names_and_labels_are_those_of_the_engine, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let image = world.busybox();
    let request = json!({ "name": "m", "image": image, "command": ["sleep", "1000"], "labels": { "a": "1", "b": "2" } });
    let version = client.create(&request)["version"].clone();
    let patch = json!({ "name": "new", "labels": { "a": null, "c": "3" }, "ttl_seconds": 3600 });
    let if_match = |version: &Value, patch: &Value| {
        let tag = format!("\"{version}\"");
        let headers = [("if-match", tag.as_str()), ("content-type", "application/json")];
        client.send("PATCH", "/v1/vms/m", &headers, patch.to_string().as_bytes())
    };
    if_match(&json!(9999), &patch).problem(412, "version-changed");
    let version = client.get("/v1/vms/m").ok(200).json()["item"]["version"].as_i64().max(version.as_i64());
    let patched = if_match(&json!(version), &patch).ok(200);
    let machine = patched.json()["item"].clone();
    assert_eq!(patched.header("etag"), Some(&*format!("\"{}\"", machine["version"])));
    assert_eq!((&machine["name"], &machine["labels"]), (&json!("new"), &json!({ "b": "2", "c": "3" })));
    assert!(machine["expires_at"].is_string(), "{machine}");
    let inspected: Value = serde_json::from_str(world.mimeo(["inspect", "new"]).ok().text()).expect("JSON");
    assert_eq!(inspected[0]["Config"]["Labels"], json!({ "b": "2", "c": "3" }));
    let listed = client.get("/v1/vms?label=c=3").ok(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    let cleared = client.json("PATCH", "/v1/vms/new", &json!({ "ttl_seconds": 0 })).ok(200).json();
    assert_eq!((&cleared["item"]["expires_at"], &cleared["item"]["name"]), (&Value::Null, &json!("new")));
    // A machine that does not run is changed, too; a name that is taken changes nothing.
    client.post("/v1/vms/new/stop?wait=60&timeout=0", &json!({})).ok(200);
    drop(client.create(&json!({ "name": "other", "image": image, "command": ["sleep", "1000"] })));
    let taken = json!({ "name": "other", "labels": { "d": "4" } });
    client.json("PATCH", "/v1/vms/new", &taken).problem(409, "name-taken");
    let stopped =
        client.json("PATCH", "/v1/vms/new", &json!({ "name": "stopped" })).ok(200).json()["item"].clone();
    assert_eq!((&stopped["name"], &stopped["labels"]), (&json!("stopped"), &json!({ "b": "2", "c": "3" })));
    for (bad, status, code) in [
        (json!({ "name": "no spaces" }), 422, "invalid-field"),
        (json!({ "labels": { "": "x" } }), 422, "invalid-field"),
        (json!({ "ttl_seconds": 99_999_999_999_u64 }), 422, "invalid-field"),
        (json!({ "memory_mib": 64 }), 400, "invalid-body"),
    ] {
        client.json("PATCH", "/v1/vms/stopped", &bad).problem(status, code);
    }
});

#[test]
fn a_change_that_the_engine_refuses_is_not_recorded() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let script = "trap '' TERM; touch /ready; while :; do sleep 1; done";
    drop(client.create(&json!({ "name": "m", "image": world.busybox(), "command": ["sh", "-c", script] })));
    until("it ignores TERM", || (client.sh("m", "test -e /ready")["exit_code"] == 0).then_some(()));
    let stopping = world.spawn(["stop", "-t", "1000", "m"].map(str::to_owned).to_vec());
    until("it is being stopped", || (item(&client, "/v1/vms/m")["state"] == "stopping").then_some(()));
    let before = item(&client, "/v1/vms/m");
    let patch = json!({ "name": "new", "labels": { "a": "b" }, "ttl_seconds": 3600 });
    client.json("PATCH", "/v1/vms/m", &patch).problem(409, "machine-stopping");
    assert_eq!(item(&client, "/v1/vms/m"), before);
    assert_eq!(requested(&client, "machine.updated"), Vec::<Value>::new());
    client.post("/v1/vms/m/kill", &json!({})).ok(200);
    e2e::Outcome::wait_for(stopping).ok();
    client.delete("/v1/vms/m?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

/// What a server at this port of the loopback interface answers, if one does.
fn fetch(port: &Value) -> Option<String> {
    let mut connection = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    connection.write_all(b"GET /page HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    text.contains("hello").then_some(text)
}

/// What the administrator's requests of this kind contain, by their events.
fn requested(client: &Client, kind: &str) -> Vec<Value> {
    let events = client.get("/v1/events?limit=1000").ok(200).json()["items"].clone();
    let events = events.as_array().expect("a list").iter();
    let by_admin = events.filter(|event| event["kind"] == kind && event["actor"] == "admin");
    by_admin.map(|event| event["data"].clone()).collect()
}

as_root_and_user!(ports_are_published_and_withdrawn_while_a_machine_runs, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    drop(machine(world, &client));
    drop(client.sh("m", "echo hello > /page; httpd -p 80 -h /"));
    let path = "/v1/vms/m/port-forwards";
    let added =
        client.post(path, &json!({ "container_port": 80, "host_ip": "127.0.0.1" })).ok(201).json()["item"]
            .clone();
    let port = added["host_port"].clone();
    assert_eq!(client.get(path).ok(200).json()["items"], json!([added]));
    until("the port is forwarded", || fetch(&port));
    let same = json!({ "container_port": 80, "host_ip": "127.0.0.1", "host_port": port });
    client.post(path, &same).problem(409, "port-in-use");
    for bad in [
        json!({ "container_port": 0 }),
        json!({ "container_port": 80, "host_ip": "::1" }),
        json!({ "container_port": 80, "range": 2 }),
    ] {
        client.post(path, &bad).problem(422, "invalid-field");
    }
    // It is published again with the next start, at a port that is free then.
    client.post("/v1/vms/m/restart?wait=60&timeout=0", &json!({})).ok(200);
    let after = client.get(path).ok(200).json()["items"].clone();
    assert_eq!(
        (after.as_array().map(Vec::len), &after[0]["container_port"]),
        (Some(1), &json!(80)),
        "{after}"
    );
    drop(client.sh("m", "httpd -p 80 -h /"));
    let port = after[0]["host_port"].clone();
    until("the port is forwarded", || fetch(&port));
    let remove = |query: &str| client.delete(&format!("{path}?{query}"));
    remove(&format!("host_port={port}")).problem(404, "port-not-published");
    remove("host_ip=127.0.0.1").problem(400, "invalid-request");
    remove(&format!("host_ip=127.0.0.1&host_port={port}")).ok(204);
    assert_eq!(client.get(path).ok(200).json()["items"], json!([]));
    assert_eq!(fetch(&port), None);
    let published = requested(&client, "machine.publish_requested");
    let first = json!({ "host_ip": "127.0.0.1", "host_port": null, "container_port": 80, "protocol": "tcp" });
    assert_eq!(published.first(), Some(&first), "{published:?}");
    let withdrawn = requested(&client, "machine.unpublish_requested");
    let last =
        json!({ "host_ip": "127.0.0.1", "host_port": port, "container_port": null, "protocol": "tcp" });
    assert_eq!(withdrawn, [last]);
    client.post("/v1/vms/m/stop?wait=60&timeout=0", &json!({})).ok(200);
    client.post(path, &json!({ "container_port": 80 })).problem(409, "machine-not-running");
});

#[test]
fn ports_of_bridged_machines_are_published_and_withdrawn() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request = json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"], "network": { "mode": "bridged" } });
    drop(client.create(&request));
    drop(client.sh("m", "echo hello > /page; httpd -p 80 -h /"));
    let path = "/v1/vms/m/port-forwards";
    let port =
        client.post(path, &json!({ "container_port": 80 })).ok(201).json()["item"]["host_port"].clone();
    until("the port is forwarded", || fetch(&port));
    client.post(path, &json!({ "container_port": 81, "host_port": port })).problem(409, "port-in-use");
    client.delete(&format!("{path}?host_port={port}")).ok(204);
    assert_eq!(fetch(&port), None);
    let added = client.post(path, &json!({ "container_port": 80, "host_port": port })).ok(201).json();
    assert_eq!(added["item"]["host_port"], port);
    until("the port is forwarded again", || fetch(&port));
}

as_root_and_user!(a_guest_reports_its_address_with_its_own_token, |world| {
    let manager = Manager::start(world, &[]);
    let client = manager.admin();
    let machine = machine(world, &client);
    let address = item(&client, "/v1/vms/m/guest-ip");
    assert_eq!((&address["ip"], &address["source"]), (&machine["network"]["ip"], &json!("network")));
    let created = client.post("/v1/vms/m/token", &json!({})).ok(201).json();
    assert_eq!((&created["item"]["machine"], &created["item"]["scopes"]), (&machine["id"], &json!([])));
    let own = manager.client(created["secret"].as_str().expect("a secret"));
    let report = json!({ "ip": "192.0.2.7", "ip6": "2001:DB8::7" });
    client.post("/v1/vms/m/guest-ip", &report).problem(403, "forbidden");
    own.get("/v1/vms/m/guest-ip").problem(403, "forbidden");
    own.post("/v1/vms/m/exec", &json!({ "command": ["true"] })).problem(403, "forbidden");
    for bad in [json!({}), json!({ "ip": "x" }), json!({ "ip": "::1" }), json!({ "ip6": "1.2.3.4" })] {
        own.post("/v1/vms/m/guest-ip", &bad).problem(422, "invalid-field");
    }
    own.post("/v1/vms/m/guest-ip", &report).ok(200);
    let address = item(&client, "/v1/vms/m/guest-ip");
    assert_eq!(
        (&address["ip"], &address["ip6"], &address["source"]),
        (&json!("192.0.2.7"), &json!("2001:db8::7"), &json!("guest"))
    );
    drop(client.create(&json!({ "name": "other", "image": world.busybox(), "command": ["sleep", "1000"] })));
    own.post("/v1/vms/other/guest-ip", &report).problem(404, "not-found");
    // Another run may have another address; the token is that of the machine, until it is removed.
    client.post("/v1/vms/m/restart?wait=60&timeout=0", &json!({})).ok(200);
    assert_eq!(item(&client, "/v1/vms/m/guest-ip")["source"], "network");
    own.post("/v1/vms/m/guest-ip", &json!({ "ip": "192.0.2.8" })).ok(200);
    client.delete("/v1/vms/m?wait=60").ok(200);
    own.post(&format!("/v1/vms/{}/guest-ip", machine["id"].as_str().expect("an id")), &report)
        .problem(401, "unauthenticated");
});

#[test]
fn a_machine_without_a_network_has_no_address() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let request = json!({ "name": "m", "image": world.busybox(), "command": ["sleep", "1000"], "network": { "mode": "none" } });
    drop(client.create(&request));
    client.get("/v1/vms/m/guest-ip").problem(409, "no-network");
    client.post("/v1/vms/m/port-forwards", &json!({ "container_port": 80 })).problem(501, "unsupported");
}
