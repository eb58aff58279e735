//! PostgreSQL, and a database that goes away.

use e2e::{Database, Manager, Postgres, User, World, until};
use serde_json::json;

#[test]
fn machines_live_on_postgres() {
    let world = World::new(User::Ordinary);
    let database = Database::Postgres(Postgres::start());
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.admin();
    let labels = json!({ "app": "web", "tier": "front" });
    let request =
        json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"], "labels": labels });
    let machine = client.create(&request);
    assert_eq!(client.sh("web", "echo hello; exit 3")["exit_code"], 3);
    let token = client.token().to_owned();
    manager.kill();
    let manager = Manager::start_on(&world, &database, &[]);
    let client = manager.client(&token);
    for query in [
        "",
        "label=app",
        "label=app=web&label=tier",
        "state=running",
        "name=web",
        "sort=-name",
        "owner=admin",
    ] {
        let listed = client.get(&format!("/v1/vms?{query}")).ok(200).json();
        assert_eq!(listed["items"][0]["id"], machine["id"], "{query}: {listed}");
    }
    for query in ["label=app=db", "state=exited", "name=db", "owner=bob"] {
        assert_eq!(client.get(&format!("/v1/vms?{query}")).ok(200).json()["items"], json!([]), "{query}");
    }
    client.post("/v1/vms", &request).problem(409, "name-taken");
    client.delete("/v1/vms/web?wait=60").ok(200);
    let operations = client.get("/v1/operations?limit=1&status=succeeded").ok(200).json();
    assert_eq!(operations["items"][0]["kind"], "delete", "{operations}");
    let cursor = operations["next_cursor"].as_str().expect("another page");
    let operations = client.get(&format!("/v1/operations?limit=1&cursor={cursor}")).ok(200).json();
    assert_eq!(operations["items"][0]["kind"], "create", "{operations}");
    manager.end();
    world.assert_empty();
}

#[test]
fn machines_run_on_while_the_database_is_away() {
    let world = World::new(User::Ordinary);
    let mut server = Postgres::start();
    let url = server.url();
    let manager = Manager::start(&world, &["--database", &url]);
    let client = manager.admin();
    let script = "trap '' TERM; touch /ready; while :; do sleep 1; done";
    let request = json!({ "name": "web", "image": world.busybox(), "command": ["sh", "-c", script] });
    let _machine = client.create(&request);
    until("it ignores TERM", || (client.sh("web", "test -e /ready")["exit_code"] == 0).then_some(()));
    // It is away while an operation is carried out.
    let begun = client.post("/v1/vms/web/stop?timeout=5", &json!({})).ok(202).json();
    let operation = format!("/v1/operations/{}", begun["operation"]["id"].as_str().expect("an id"));
    until("it is being carried out", || {
        (world.inspect("web")["State"]["Status"] == "stopping").then_some(())
    });
    server.stop();
    let refused = client.get("/v1/vms");
    refused.problem(503, "database-unavailable");
    assert_eq!(refused.header("should-retry"), Some("true"));
    let health = client.get("/health").ok(503).json();
    assert_eq!(health["status"], "unavailable", "{health}");
    client.post("/v1/vms", &request).problem(503, "database-unavailable");
    client.get("/v1").ok(200);
    until("the machine has exited", || {
        let listed = world.mimeo(["ps", "-a", "--format", "{{.Status}}"]).ok();
        listed.text().starts_with("Exited (137)").then_some(())
    });
    server.start_again();
    until("the manager works again", || (client.get("/health").status == 200).then_some(()));
    let operation = client.get(&format!("{operation}/wait?timeout=60")).ok(200).json();
    assert_eq!(operation["item"]["status"], "succeeded", "the result was recorded: {operation}");
    assert_eq!(client.get("/v1/vms/web").ok(200).json()["item"]["exit"]["code"], 137);
    let verified = client.get("/v1/events/verify").ok(200).json();
    assert_eq!(verified["item"]["is_whole"], true, "{verified}");
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

#[test]
fn requests_end_while_the_database_does_not_answer() {
    let world = World::new(User::Ordinary);
    let server = Postgres::start();
    let manager = Manager::start(&world, &["--database", &server.url(), "--rate-limit", "0"]);
    let client = manager.admin();
    let _machine =
        client.create(&json!({ "name": "web", "image": world.busybox(), "command": ["sleep", "1000"] }));
    server.freeze();
    // More than there are connections, reads and writes.
    std::thread::scope(|scope| {
        for number in 0..24 {
            let client = &client;
            scope.spawn(move || {
                let answer = match number % 2 {
                    0 => client.get("/v1/vms"),
                    _ => {
                        client.post("/v1/users", &json!({ "name": format!("user{number}"), "role": "user" }))
                    }
                };
                answer.problem(503, "database-unavailable");
            });
        }
    });
    world.mimeo(["exec", "web", "echo", "hello"]).ok().printed("hello\n");
    server.thaw();
    until("it answers again", || (client.get("/v1/vms").status == 200).then_some(()));
    client.post("/v1/users", &json!({ "name": "bob", "role": "user" })).ok(201);
    client.post("/v1/vms/web/restart?timeout=0&wait=60", &json!({})).ok(200);
    client.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

/// Asserts that no other home's manager uses the database.
fn assert_refused(world: &World, address: &str, shown: &str) {
    world
        .mimeo(["manager", "--listen", "127.0.0.1:0", "--database", address])
        .code(125)
        .stderr_contains(&format!("another manager uses the database {shown}"));
}

#[test]
fn a_file_has_one_manager() {
    let (world, other) = (World::bare(User::Root), World::bare(User::Root));
    let address = format!("sqlite:{}", world.files().join("shared.db").display());
    let manager = Manager::start(&world, &["--database", &address]);
    let token = manager.admin().token().to_owned();
    assert_refused(&other, &address, &address);
    // The refused one has disturbed no lock of SQLite's.
    manager.client(&token).post("/v1/users", &json!({ "name": "alice", "role": "user" })).ok(201);
    manager.kill();
    let manager = Manager::start(&other, &["--database", &address]);
    manager.client(&token).get("/v1/users/alice").ok(200);
    manager.end();
}

#[test]
fn a_server_has_one_manager_also_after_it_was_away() {
    let (world, other) = (World::bare(User::Root), World::bare(User::Root));
    let mut server = Postgres::start();
    let url = server.url();
    let shown = format!("postgres://{}", url.rsplit('@').next().expect("a host"));
    let manager = Manager::start(&world, &["--database", &url]);
    let client = manager.admin();
    assert_refused(&other, &url, &shown);
    // The lock is lost with its session, and taken again.
    server.stop();
    until("the manager has noticed", || (client.get("/health").status == 503).then_some(()));
    server.start_again();
    until("the manager works again", || (client.get("/health").status == 200).then_some(()));
    let locks = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    until("it has locked the database", || (server.sql(locks) == "1").then_some(()));
    assert_refused(&other, &url, &shown);
    let token = client.token().to_owned();
    manager.kill();
    let manager = Manager::start(&other, &["--database", &url]);
    manager.client(&token).get("/v1/vms").ok(200);
    manager.end();
}

#[test]
fn a_manager_whose_database_was_taken_over_ends() {
    let world = World::bare(User::Root);
    let server = Postgres::start();
    let manager = Manager::start(&world, &["--database", &server.url()]);
    let pid = manager.pid();
    // Another session takes the lock as soon as it is free.
    let taking = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'; \
                  SELECT pg_advisory_lock(469920212335); SELECT pg_sleep(20)";
    std::thread::scope(|scope| {
        scope.spawn(|| drop(server.sql(taking)));
        until("the manager has ended", || (!e2e::is_alive(pid)).then_some(()));
    });
    drop(manager);
}

#[test]
fn addresses_that_cannot_be_used_are_refused() {
    let world = World::bare(User::Ordinary);
    let refused = |address: &str, part: &str| {
        world
            .mimeo(["manager", "--listen", "127.0.0.1:0", "--database", address])
            .code(125)
            .stderr_contains(part);
    };
    refused("mysql://host/db", "not the address of a database");
    refused("sqlite:/missing/directory/a.db", "cannot create /missing/directory/a.db");
    let file = world.file("a.db", "this is no database at all, but text of some length\n".repeat(100));
    refused(&format!("sqlite:{}", file.display()), "cannot");
    refused("postgres://me:secret@127.0.0.1:1/db", "cannot open the database postgres://127.0.0.1:1/db");
}
