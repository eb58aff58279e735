//! An image in the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;

/// An image in the store, ready to boot from.
///
/// As JSON it is an object of these fields: digests are `sha256:<hex>`, `created` is RFC 3339, `size` is in
/// bytes, `rootfs` is an absolute path. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Image {
    /// The digest of its configuration, which podman and docker call the image's id.
    pub id: Digest,
    /// Full names, in order; none for an image whose names went to others.
    pub names: Vec<String>,
    /// The manifest's digest.
    pub digest: Digest,
    /// When it was built, where it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<jiff::Timestamp>,
    /// As `amd64`.
    pub architecture: String,
    /// As `linux`.
    pub os: String,
    /// Bytes of real disk that its filesystem takes.
    pub size: u64,
    /// From the lowest to the topmost.
    pub layers: Vec<LayerInfo>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its ext4 filesystem, to be attached read-only. The same file for images of the same layers.
    pub rootfs: PathBuf,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// As stored, compressed.
    pub digest: Digest,
    /// Of its uncompressed bytes.
    pub diff_id: Digest,
    /// Bytes as stored, compressed.
    pub size: u64,
}

impl Image {
    /// The first 12 hex digits of the id, for tables.
    pub fn short_id(&self) -> String {
        self.id.hex()[..12].to_owned()
    }
}
