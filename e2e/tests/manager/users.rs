//! Users and tokens.

use e2e::{Client, Manager, on_both_databases, until};
use serde_json::{Value, json};

/// A client with a new token of this user.
fn client_of(admin: &Client, user: &str, request: &Value) -> Client {
    let mut request = request.clone();
    request["user"] = user.into();
    let answer = admin.post("/v1/tokens", &request).ok(201);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    Client::new(admin.url(), answer.json()["secret"].as_str().expect("a secret"))
}

fn create_user(admin: &Client, name: &str, role: &str) {
    let answer = admin.post("/v1/users", &json!({ "name": name, "role": role })).ok(201);
    assert_eq!(answer.header("location"), Some(format!("/v1/users/{name}").as_str()));
    assert_eq!(answer.json()["item"]["role"], role);
}

on_both_databases!(users_are_made_changed_and_removed, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    create_user(&admin, "alice", "user");
    for name in ["", "Alice", "-a", "a b", "local", "manager", "ä", &"a".repeat(33)] {
        admin.post("/v1/users", &json!({ "name": name, "role": "user" })).problem(422, "invalid-field");
    }
    admin.post("/v1/users", &json!({ "name": "alice", "role": "admin" })).problem(409, "name-taken");
    admin.post("/v1/users", &json!({ "name": "x", "role": "king" })).problem(400, "invalid-body");
    admin.post("/v1/users", &json!({ "name": "x", "role": "user", "more": 1 })).problem(400, "invalid-body");
    let first = admin.get("/v1/users?limit=1").ok(200).json();
    assert_eq!(first["items"][0]["name"], "admin", "{first}");
    let cursor = first["next_cursor"].as_str().expect("a second page");
    let second = admin.get(&format!("/v1/users?limit=1&cursor={cursor}")).ok(200).json();
    assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("alice"), &Value::Null));
    let id = second["items"][0]["id"].as_str().expect("an id");
    assert_eq!(admin.get(&format!("/v1/users/{id}")).ok(200).json()["item"]["name"], "alice");
    // An administrator is left whatever is done.
    admin.json("PATCH", "/v1/users/admin", &json!({ "role": "user" })).problem(409, "last-admin");
    admin.json("PATCH", "/v1/users/admin", &json!({ "disabled": true })).problem(409, "last-admin");
    admin.delete("/v1/users/admin").problem(409, "last-admin");
    let changed = admin.json("PATCH", "/v1/users/alice", &json!({ "role": "admin" })).ok(200).json();
    assert_eq!(changed["item"]["role"], "admin");
    let alice = client_of(&admin, "alice", &json!({}));
    alice.json("PATCH", "/v1/users/admin", &json!({ "disabled": true })).ok(200);
    admin.get("/v1/whoami").problem(401, "user-disabled");
    alice.json("PATCH", "/v1/users/admin", &json!({ "disabled": false })).ok(200);
    alice.delete("/v1/users/alice").ok(200);
    alice.get("/v1/whoami").problem(401, "unauthenticated");
    admin.get("/v1/users/alice").problem(404, "not-found");
    // Events have that name.
    admin.post("/v1/users", &json!({ "name": "alice", "role": "user" })).problem(409, "name-taken");
    manager.end();
});

on_both_databases!(a_token_makes_no_stronger_one, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    for (name, role) in [("alice", "user"), ("bob", "user"), ("vera", "viewer")] {
        create_user(&admin, name, role);
    }
    let alice = client_of(&admin, "alice", &json!({ "name": "laptop" }));
    let who = alice.get("/v1/whoami").ok(200).json()["item"].clone();
    assert_eq!((&who["user"], &who["scopes"]), (&json!("alice"), &json!(["read", "write", "exec"])));
    admin.post("/v1/tokens", &json!({ "user": "vera", "scopes": ["write"] })).problem(403, "scope-forbidden");
    alice.post("/v1/tokens", &json!({ "scopes": ["admin"] })).problem(403, "scope-forbidden");
    alice.post("/v1/tokens", &json!({ "scopes": [] })).problem(422, "invalid-field");
    alice.post("/v1/tokens", &json!({ "ttl_seconds": 0 })).problem(422, "invalid-field");
    alice.post("/v1/tokens", &json!({ "user": "bob" })).problem(403, "forbidden");
    let request = json!({ "scopes": ["read", "write"], "ttl_seconds": 1000 });
    let made = alice.post("/v1/tokens", &request).ok(201).json();
    let expires = made["item"]["expires_at"].clone();
    assert!(expires.is_string(), "{made}");
    let narrow = Client::new(&manager.url, made["secret"].as_str().expect("a secret"));
    narrow.post("/v1/tokens", &json!({ "scopes": ["read", "exec"] })).problem(403, "scope-forbidden");
    let next = narrow.post("/v1/tokens", &json!({})).ok(201).json()["item"].clone();
    assert_eq!((&next["scopes"], &next["expires_at"]), (&json!(["read", "write"]), &expires), "{next}");
    // Each user sees the own tokens only, and none of the secrets.
    let listed = alice.get("/v1/tokens").ok(200).json()["items"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    assert!(!listed.to_string().contains("mimeo_"), "{listed}");
    assert_eq!(admin.get("/v1/tokens").ok(200).json()["items"].as_array().map(Vec::len), Some(4));
    alice.get("/v1/tokens?user=bob").problem(404, "not-found");
    let of_admin = admin.get("/v1/tokens?user=admin").ok(200).json()["items"][0]["id"].clone();
    let path = format!("/v1/tokens/{}", of_admin.as_str().expect("an id"));
    alice.get(&path).problem(404, "not-found");
    alice.delete(&path).problem(404, "not-found");
    let path = format!("/v1/tokens/{}", made["item"]["id"].as_str().expect("an id"));
    alice.delete(&path).ok(200);
    narrow.get("/v1/whoami").problem(401, "unauthenticated");
    manager.end();
});

on_both_databases!(a_token_removes_no_stronger_one, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    create_user(&admin, "alice", "user");
    let alice = client_of(&admin, "alice", &json!({}));
    let of_alice = |scopes: Value| client_of(&alice, "alice", &json!({ "scopes": scopes }));
    let id = |client: &Client| client.get("/v1/whoami").ok(200).json()["item"]["token"].clone();
    let path = |client: &Client| format!("/v1/tokens/{}", id(client).as_str().expect("an id"));
    let (reader, executor) = (of_alice(json!(["read"])), of_alice(json!(["exec"])));
    let (writer, other) = (of_alice(json!(["read", "write"])), of_alice(json!(["read", "write"])));
    // A reader sees tokens, and neither makes nor removes one.
    assert_eq!(reader.get("/v1/tokens").ok(200).json()["items"].as_array().map(Vec::len), Some(5));
    reader.post("/v1/tokens", &json!({})).problem(403, "forbidden");
    reader.delete(&path(&other)).problem(403, "forbidden");
    executor.get("/v1/tokens").problem(403, "forbidden");
    writer.delete(&path(&alice)).problem(403, "scope-forbidden");
    writer.delete(&path(&other)).ok(200);
    other.get("/v1/whoami").problem(401, "unauthenticated");
    // Each may remove itself.
    for client in [&reader, &executor] {
        client.delete(&path(client)).ok(200);
        client.get("/v1/whoami").problem(401, "unauthenticated");
    }
    // An administrator's token, too, makes none that expires later, for any user.
    let short = client_of(&admin, "admin", &json!({ "ttl_seconds": 1000 }));
    let made = short.post("/v1/tokens", &json!({ "user": "alice" })).ok(201).json();
    let own = short.get("/v1/tokens?user=admin").ok(200).json()["items"][1].clone();
    assert_eq!(made["item"]["expires_at"], own["expires_at"], "{made} {own}");
    manager.end();
});

on_both_databases!(a_token_expires, bare, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let client = client_of(&manager.admin(), "admin", &json!({ "ttl_seconds": 1 }));
    let refused = until("the token has expired", || {
        let answer = client.get("/v1/whoami");
        (answer.status != 200).then_some(answer)
    });
    refused.problem(401, "token-expired");
    manager.end();
});

on_both_databases!(machines_of_a_removed_user_are_handed_over, cold, |world, database| {
    let manager = Manager::start_on(world, database, &[]);
    let admin = manager.admin();
    create_user(&admin, "alice", "admin");
    create_user(&admin, "bob", "user");
    let alice = client_of(&admin, "alice", &json!({}));
    let request = json!({ "name": "web", "image": world.busybox(), "start": false });
    let machine = alice.post("/v1/vms?wait=60", &request).ok(201).json()["item"].clone();
    assert_eq!((&machine["owner"], &machine["state"]), (&json!("alice"), &json!("created")), "{machine}");
    admin.delete("/v1/users/alice").problem(409, "user-has-resources");
    admin.delete("/v1/users/alice?new_owner=nobody").problem(404, "not-found");
    admin.delete("/v1/users/alice?new_owner=alice").problem(400, "invalid-request");
    alice.get("/v1/whoami").ok(200);
    admin.delete("/v1/users/alice?new_owner=bob").ok(200);
    let bob = client_of(&admin, "bob", &json!({}));
    assert_eq!(bob.get("/v1/vms/web").ok(200).json()["item"]["owner"], "bob");
    bob.delete("/v1/vms/web?wait=60").ok(200);
    manager.end();
    world.assert_empty();
});
