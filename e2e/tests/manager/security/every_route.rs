//! Every route of the document, called by those who may not. New routes are covered by themselves.

use e2e::{Answer, Client, Manager, User, World, until};
use serde_json::{Value, json};

use super::{client_with, new_user};

/// A route.
struct Route {
    method: String,
    path: String,
    policy: String,
    /// Whether the path names a resource.
    has_resource: bool,
}

impl Route {
    /// Calls it, with a body if it may have one.
    fn call(&self, client: &Client) -> Answer {
        let headers = [("content-type", "application/json")];
        let body: &[u8] = if self.method == "GET" { b"" } else { b"{}" };
        client.send(&self.method, &self.path, &headers, body)
    }

    fn refuses(&self, client: &Client, status: u16, code: &str) {
        self.call(client).problem(status, code);
    }
}

/// All routes, with the ids of resources of another user.
fn routes(document: &Value, machine: &str, operation: &str) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, described) in item.as_object().expect("an item") {
            let kind = path.split("/{").next().and_then(|path| path.rsplit('/').next());
            let id = match kind {
                Some("vms" | "containers" | "machines") => machine,
                Some("operations") => operation,
                _ => "0123456789abcdef",
            };
            let mut words = path.split(['{', '}']).enumerate();
            let filled: String = words.by_ref().map(|(index, word)| fill(index, word, id)).collect();
            let policy = described["x-policy"].as_str().expect("a policy").to_owned();
            routes.push(Route {
                method: method.to_uppercase(),
                path: filled,
                policy,
                has_resource: path.contains('{'),
            });
        }
    }
    routes
}

/// Every second word is a parameter.
fn fill(index: usize, word: &str, id: &str) -> String {
    match (index % 2, word) {
        (0, text) => text.to_owned(),
        (_, "id") => id.to_owned(),
        _ => "x".to_owned(),
    }
}

#[test]
fn every_route_refuses_those_who_may_not() {
    let world = World::cold(User::Ordinary);
    // Refusals are many here.
    let manager = Manager::start(&world, &["--rate-limit", "0"]);
    let admin = manager.admin();
    let request = json!({ "name": "secret", "image": world.busybox(), "start": false });
    let made = admin.post("/v1/vms?wait=60", &request).ok(201).json();
    let (machine, operation) = (made["item"]["id"].as_str(), made["operation"]["id"].as_str());
    let (machine, operation) = (machine.expect("an id"), operation.expect("an id"));
    let document = admin.get("/openapi.json").ok(200).json();
    let routes = routes(&document, machine, operation);
    assert!(routes.len() > 30, "{}", routes.len());
    without_a_valid_token(&admin, &routes);
    without_the_right(&admin, &routes);
    with_foreign_resources(&admin, &routes);
    assert_eq!(admin.get("/v1/vms/secret").ok(200).json()["item"]["state"], "created");
    admin.delete("/v1/vms/secret?wait=60").ok(200);
    manager.end();
    world.assert_empty();
}

fn without_a_valid_token(admin: &Client, routes: &[Route]) {
    let nobody = Client::new(admin.url(), "");
    let wrong = Client::new(admin.url(), "mimeo_0123456789abcdef");
    let expired = client_with(admin, &json!({ "ttl_seconds": 1 }));
    let disabled = new_user(admin, "disabled", "admin");
    admin.json("PATCH", "/v1/users/disabled", &json!({ "disabled": true })).ok(200);
    until("the token has expired", || (expired.get("/v1/whoami").status != 200).then_some(()));
    for route in routes {
        if route.policy == "public" {
            let answer = route.call(&nobody);
            assert!(!matches!(answer.status, 401 | 403), "{}: {}", answer.request, answer.status);
            continue;
        }
        route.refuses(&nobody, 401, "unauthenticated");
        route.refuses(&wrong, 401, "unauthenticated");
        route.refuses(&expired, 401, "token-expired");
        route.refuses(&disabled, 401, "user-disabled");
    }
}

fn without_the_right(admin: &Client, routes: &[Route]) {
    let scopes = ["read", "write", "exec", "admin"];
    let all_but = |missing: &str| {
        let others: Vec<_> = scopes.iter().filter(|scope| **scope != missing).collect();
        client_with(admin, &json!({ "scopes": others }))
    };
    let clients = scopes.map(|scope| (scope, all_but(scope)));
    let (viewer, user) = (new_user(admin, "viewer", "viewer"), new_user(admin, "user", "user"));
    for route in routes {
        let policy = route.policy.as_str();
        if let Some((_, client)) = clients.iter().find(|(scope, _)| *scope == policy) {
            route.refuses(client, 403, "forbidden");
        }
        match policy {
            "write" | "exec" => route.refuses(&viewer, 403, "forbidden"),
            "admin" => [&viewer, &user].iter().for_each(|client| route.refuses(client, 403, "forbidden")),
            "own-machine" => route.refuses(admin, 403, "forbidden"),
            "public" | "authenticated" | "read" => {}
            other => panic!("{}: the policy {other:?} is unknown here", route.path),
        }
    }
}

/// A resource of another user is answered as one that does not exist; a request that makes no sense may be refused before.
fn with_foreign_resources(admin: &Client, routes: &[Route]) {
    let bob = new_user(admin, "bob", "user");
    let of_resources = routes
        .iter()
        .filter(|route| ["read", "write", "exec", "authenticated"].contains(&route.policy.as_str()));
    for route in of_resources.filter(|route| route.has_resource) {
        let answer = route.call(&bob);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.status, 404 | 400 | 415 | 422 | 426), "{}: {text}", answer.request);
        assert!(!text.contains("secret"), "{}: {text}", answer.request);
    }
    let listed = bob.get("/v1/vms").ok(200).json();
    assert_eq!(listed["items"], json!([]));
    assert_eq!(bob.get("/v1/operations").ok(200).json()["items"], json!([]));
}
