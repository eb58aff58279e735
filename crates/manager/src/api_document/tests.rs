//! The document is whole, and the committed one is up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mimeo_engine::{Engine, Home};
use serde_json::Value;

/// The committed document.
const FILE: &str = "../../docs/reference/openapi.json";

async fn text() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::new(Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home"));
    super::api_document(engine).await.expect("the document")
}

async fn document() -> Value {
    serde_json::from_str(&text().await).expect("JSON")
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("an item");
        item.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let is_equal = committed == text().await;
    assert!(
        is_equal,
        "docs/reference/openapi.json is out of date: run `cargo xtask openapi`, and read the difference"
    );
}

#[tokio::test]
async fn all_references_can_be_resolved() {
    let document = document().await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/Problem"), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} does not exist");
    }
}

#[tokio::test]
async fn each_operation_is_described() {
    let document = document().await;
    let tags: Vec<&str> =
        document["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
    let mut by_id = BTreeMap::new();
    for (route, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{route} has no operationId"));
        let other = by_id.insert(id.to_owned(), route.clone());
        assert_eq!(other, None, "{route} has the operationId {id:?} of another one");
        assert!(operation["summary"].is_string(), "{route} has no summary");
        assert!(operation["x-policy"].is_string(), "{route} has no policy");
        let tag = operation["tags"][0].as_str().unwrap_or_else(|| panic!("{route} has no tag"));
        assert!(tags.contains(&tag), "{route}: the tag {tag:?} is not described: add it to TAGS");
        assert!(!route.ends_with('/'), "{route} ends with a slash");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in route.split(['{', '}']).skip(1).step_by(2) {
            let is_described = parameters.iter().any(|one| one["name"] == name && one["in"] == "path");
            assert!(is_described, "{route}: the parameter {name:?} is not described");
        }
    }
}
