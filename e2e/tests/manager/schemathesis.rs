//! Schemathesis, a tool of others, tries the API by its document: no failure of the manager, and no answer that the
//! document does not have.

use e2e::{Client, Manager, User, World, target, until};
use serde_json::json;

/// What is checked of each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance";

#[test]
fn schemathesis_finds_no_fault() {
    let world = World::cold(User::Root);
    let manager = Manager::start(&world, &["--rate-limit", "0"]);
    let admin = manager.admin();
    // Some of what it tries exists.
    for (path, request) in [
        ("/v1/vms?wait=60", json!({ "name": "0", "image": world.busybox(), "start": false })),
        ("/v1/users", json!({ "name": "0", "role": "user" })),
    ] {
        let _made = admin.post(path, &request).ok(201);
    }
    let program = target().join("schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "{} is missing: run `make deps`, which installs it from PyPI",
        program.display()
    );
    let mut command = world.program(program);
    command.args(["run", &format!("{}/openapi.json", manager.url), "--checks", CHECKS]);
    command.args(["-H", &format!("Authorization: Bearer {}", admin.token())]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"]);
    // Requests that wait, and the stream of events, would take all the time.
    command.args(["--exclude-path-regex", "/wait$|^/v1/events$", "--request-timeout", "60", "--no-color"]);
    let outcome = world.finish(command).ok();
    assert!(
        outcome.text().contains("No issues found") || outcome.text().contains(" passed"),
        "{}",
        outcome.text()
    );
    admin.get("/health").ok(200);
    for list in ["/v1/vms", "/v1/snapshots", "/v1/runtime-snapshots"] {
        remove_all(&admin, list);
    }
    manager.end();
    world.assert_empty();
}

/// Removes all resources of a list. Some may be refused until others are gone, or until what was begun has ended.
fn remove_all(admin: &Client, list: &str) {
    until(&format!("{list} is empty"), || {
        let listed = admin.get(&format!("{list}?limit=1000")).ok(200).json();
        let items = listed["items"].as_array().expect("a list");
        for item in items {
            let answer = admin.delete(&format!("{list}/{}", item["id"].as_str().expect("an id")));
            let status = answer.status;
            assert!(matches!(status, 200..=299 | 404 | 409 | 410), "{}: {status}", answer.request);
        }
        items.is_empty().then_some(())
    });
}
