//! A base in JSON.

use std::path::PathBuf;

use mimeo_base::{Manifest, Store};
use serde::Serialize;

/// A base: its manifest, and what is on the host's disk.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) manifest: Manifest,
    /// The path of its disk.
    disk: PathBuf,
    /// Bytes of the host's disk that it occupies.
    pub(crate) disk_usage_bytes: u64,
}

impl Row {
    pub(crate) fn new(store: &Store, manifest: Manifest) -> Self {
        let (disk, disk_usage_bytes) = (store.disk(&manifest.name), store.disk_usage(&manifest.name));
        Self { manifest, disk, disk_usage_bytes }
    }
}
