//! Who may do what, and what one client can do to the others.

mod every_route;
mod host_paths;
mod idempotency;
mod limits;
mod rights;
mod unix_socket;

use e2e::Client;
use serde_json::{Value, json};

/// A client with a new token, as `request` wants it.
pub(crate) fn client_with(admin: &Client, request: &Value) -> Client {
    let made = admin.post("/v1/tokens", request).ok(201).json();
    Client::new(admin.url(), made["secret"].as_str().expect("a secret"))
}

/// A client of a new user.
pub(crate) fn new_user(admin: &Client, name: &str, role: &str) -> Client {
    let _user = admin.post("/v1/users", &json!({ "name": name, "role": role })).ok(201);
    client_with(admin, &json!({ "user": name }))
}
