//! The API's document and the page that shows it.

use e2e::{Client, Manager, User, World};
use serde_json::Value;

/// The document that is committed.
const COMMITTED: &str = include_str!("../../../docs/reference/openapi.json");

#[test]
fn the_document_and_its_page_are_public() {
    let world = World::bare(User::Ordinary);
    let manager = Manager::start(&world, &[]);
    let anybody = Client::new(&manager.url, "");
    let document = anybody.get("/openapi.json").ok(200).json();
    let committed: Value = serde_json::from_str(COMMITTED).expect("JSON");
    assert!(document == committed, "docs/reference/openapi.json is out of date: run `cargo xtask openapi`");
    let page = anybody.get("/docs").ok(200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    let html = String::from_utf8(page.body).expect("text");
    assert!(html.contains("fetch(\"/openapi.json\")") && !html.contains("{script}"), "{html}");
    assert!(!html.contains("http://") && !html.contains("https://"), "the page needs nothing else");
    manager.end();
}
