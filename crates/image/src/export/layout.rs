//! OCI layouts: `oci-layout`, `index.json` and `blobs/sha256/<hex>`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::manifest::{self, Family};
use super::sink::Sink;
use super::{ExportError, Exported};
use crate::digest::Digest;
use crate::local::{INDEX, TAG};
use crate::store::Store;

const LAYOUT: &str = "oci-layout";
const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes images, and an index of them, last: a layout without an index has no images.
pub(super) fn write(
    store: &Store,
    images: &[Exported],
    sink: &mut dyn Sink,
) -> Result<Vec<Digest>, ExportError> {
    let mut index = read_index(sink)?;
    let mut written = BTreeSet::new();
    let mut digests = Vec::new();
    for exported in images {
        manifest::check_complete(store, &exported.image)?;
        for (digest, path) in manifest::blobs(store, &exported.image) {
            if written.insert(digest) {
                sink.add_blob(&member(digest), digest, &path)?;
            }
        }
        let document = manifest::of_family(store, &exported.image, Family::Oci)?;
        if written.insert(document.digest) {
            sink.add_bytes(&member(document.digest), &document.bytes)?;
        }
        add_entries(&mut index, exported, &document);
        digests.push(document.digest);
    }
    sink.add_bytes(LAYOUT, LAYOUT_VERSION)?;
    sink.add_bytes(INDEX, &serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": index}))?)?;
    Ok(digests)
}

fn member(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The images of an existing layout.
fn read_index(sink: &dyn Sink) -> Result<Vec<Value>, ExportError> {
    let Some(bytes) = sink.existing(INDEX)? else { return Ok(Vec::new()) };
    let index: Value = serde_json::from_slice(&bytes)?;
    Ok(index["manifests"].as_array().cloned().unwrap_or_default())
}

/// Adds an entry for each name, and takes the name from other images.
fn add_entries(index: &mut Vec<Value>, exported: &Exported, document: &manifest::Document) {
    let descriptor = json!({
        "mediaType": document.media_type,
        "digest": document.digest.to_string(),
        "size": document.bytes.len(),
    });
    if exported.names.is_empty() && !index.contains(&descriptor) {
        index.push(descriptor.clone());
    }
    for name in &exported.names {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({ TAG: name });
        match index.iter_mut().find(|entry| entry["annotations"][TAG] == name.as_str()) {
            Some(other) => *other = entry,
            None => index.push(entry),
        }
    }
}
