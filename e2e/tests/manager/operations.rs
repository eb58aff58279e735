//! Operations that take long, that nothing carries out, and that cannot be carried out.

use e2e::{Client, Database, Manager, Postgres, User, World, until};
use serde_json::{Value, json};

fn id_of(answer: &Value) -> &str {
    answer["operation"]["id"].as_str().expect("an id")
}

fn operation(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/operations/{id}")).ok(200).json()["item"].clone()
}

/// A machine that does not end on SIGTERM.
fn create_stubborn(world: &World, client: &Client, name: &str) {
    let script = "trap '' TERM; touch /ready; while :; do sleep 1; done";
    let command = ["sh", "-c", script];
    let _machine = client.create(&json!({ "name": name, "image": world.busybox(), "command": command }));
    until("it ignores TERM", || (client.sh(name, "test -e /ready")["exit_code"] == 0).then_some(()));
}

#[test]
fn a_removal_does_not_wait_for_a_long_stop() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    create_stubborn(&world, &client, "stopping");
    let stop = client.post("/v1/vms/stopping/stop?timeout=3000", &json!({})).ok(202).json();
    until("it is being stopped", || {
        (client.get("/v1/vms/stopping").ok(200).json()["item"]["state"] == "stopping").then_some(())
    });
    client.delete("/v1/vms/stopping?wait=60").ok(200);
    assert_eq!(operation(&client, id_of(&stop))["status"], "cancelled");

    create_stubborn(&world, &client, "removing");
    let slow = client.delete("/v1/vms/removing?timeout=3000").ok(202).json();
    let again = client.delete("/v1/vms/removing?timeout=0&wait=60").ok(200).json();
    assert_eq!(operation(&client, id_of(&slow))["status"], "succeeded", "{again}");
    manager.end();
    world.assert_empty();
}

#[test]
fn the_manager_ends_during_a_long_stop_and_the_next_one_waits_for_it() {
    let world = World::new(User::Root);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    for name in ["stopping", "restarting", "removing"] {
        create_stubborn(&world, &client, name);
    }
    let begun = [
        client.post("/v1/vms/stopping/stop?timeout=3000", &json!({})).ok(202).json(),
        client.post("/v1/vms/restarting/restart?timeout=3000", &json!({})).ok(202).json(),
        client.delete("/v1/vms/removing?timeout=3000").ok(202).json(),
    ];
    manager.end();
    let manager = Manager::start(&world, &[]);
    let client = manager.client(client.token());
    for begun in &begun {
        assert_eq!(operation(&client, id_of(begun))["status"], "running");
    }
    for name in ["stopping", "restarting"] {
        world.mimeo(["kill", name]).ok();
    }
    client.delete("/v1/vms/removing?timeout=0&wait=60").ok(200);
    for begun in &begun {
        let path = format!("/v1/operations/{}/wait?timeout=60", id_of(begun));
        assert_eq!(client.get(&path).ok(200).json()["item"]["status"], "succeeded");
    }
    client.get("/v1/vms/stopping/wait?state=exited&timeout=60").ok(200);
    assert_eq!(client.sh("restarting", "echo hello")["stdout"], "hello\n");
    for name in ["stopping", "restarting"] {
        client.delete(&format!("/v1/vms/{name}?wait=60")).ok(200);
    }
    manager.end();
    world.assert_empty();
}

#[test]
fn a_start_is_undone_when_its_operation_is_cancelled() {
    let world = World::new(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let client = manager.admin();
    let command = ["sleep", "1000"];
    let request =
        json!({ "name": "web", "image": world.busybox(), "command": command, "cold": true, "start": false });
    client.post("/v1/vms?wait=60", &request).ok(201);
    let begun = client.post("/v1/vms/web/start", &json!({})).ok(202).json();
    let cancelled = client.delete(&format!("/v1/operations/{}", id_of(&begun))).ok(200).json();
    assert_eq!(cancelled["item"]["status"], "cancelled", "{cancelled}");
    // It neither runs nor is it undone any more: without force it could not be removed.
    world.mimeo(["rm", "web"]).ok();
    manager.end();
    world.assert_empty();
}

#[test]
fn an_operation_that_nothing_carries_out_is_taken_up() {
    let (world, database) = (World::new(User::Root), Database::Postgres(Postgres::start()));
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.admin();
    let id = stop_a_machine(&world, &client);
    client.post("/v1/vms/web/start?wait=60", &json!({})).ok(200);
    // As if the database had recorded it, and its answer had been lost.
    reopen(&database, &id, "request");
    client.get("/v1/vms/web/wait?state=exited&timeout=90").ok(200);
    let path = format!("/v1/operations/{id}/wait?timeout=60");
    assert_eq!(client.get(&path).ok(200).json()["item"]["status"], "succeeded");
    client.post("/v1/vms/web/start?wait=60", &json!({})).ok(200);
    // As if another one had begun meanwhile.
    manager.end();
    reopen(&database, &id, "request");
    let updated = server(&database).sql("UPDATE machines SET item = (item::jsonb - 'operation')::text");
    assert_eq!(updated, "UPDATE 1");
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.client(client.token());
    assert_eq!(operation(&client, &id)["status"], "cancelled");
    assert_eq!(client.sh("web", "echo hello")["stdout"], "hello\n");
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn an_operation_that_cannot_be_read_fails_and_holds_up_nothing() {
    let (world, database) = (World::new(User::Root), Database::Postgres(Postgres::start()));
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.admin();
    let id = stop_a_machine(&world, &client);
    manager.end();
    reopen(&database, &id, r#"'{"kind":"of_a_later_version"}'"#);
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.client(client.token());
    let failed = operation(&client, &id);
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["error"]["code"], "operation-unreadable", "{failed}");
    client.post("/v1/vms/web/start?wait=60", &json!({})).ok(200);
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

/// Creates the machine `web` and stops it; returns the id of the last operation.
fn stop_a_machine(world: &World, client: &Client) -> String {
    let request = json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] });
    let _machine = client.create(&request);
    let stop = client.post("/v1/vms/web/stop?timeout=0&wait=60", &json!({})).ok(200).json();
    id_of(&stop).to_owned()
}

fn server(database: &Database) -> &Postgres {
    let Database::Postgres(server) = database else { panic!("not PostgreSQL") };
    server
}

/// Makes a finished operation unfinished, with this request.
fn reopen(database: &Database, id: &str, request: &str) {
    let server = server(database);
    let item = r#"replace(item, '"status":"succeeded"', '"status":"running"')"#;
    let updated = server.sql(&format!(
        "UPDATE operations SET status = 'running', finished_at = NULL, item = {item}, request = {request} WHERE id = '{id}'"
    ));
    assert_eq!(updated.trim(), "UPDATE 1");
    // The machine that it changes names it.
    let machine = format!("(item::jsonb || jsonb_build_object('operation', '{id}'))::text");
    let updated = server.sql(&format!("UPDATE machines SET item = {machine} WHERE name = 'web'"));
    assert_eq!(updated.trim(), "UPDATE 1");
}
