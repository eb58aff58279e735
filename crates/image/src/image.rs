//! An image in the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;

/// An image in the store, ready to boot from.
///
/// As JSON it is an object with these fields: digests are `sha256:<hex>`, `created` is RFC 3339, `size` is in
/// bytes, `rootfs` is an absolute path. New versions only add fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration, which podman and docker call the image id.
    pub id: Digest,
    /// Full names, sorted; empty if all names have moved to other images.
    pub names: Vec<String>,
    /// The manifest's digest.
    pub digest: Digest,
    /// When it was built, if the configuration says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<jiff::Timestamp>,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// Disk space that its filesystem uses, in bytes.
    pub size: u64,
    /// From the lowest to the topmost.
    pub layers: Vec<LayerInfo>,
    /// Its run configuration.
    pub config: ImageConfig,
    /// Its ext4 filesystem, to be attached read-only. Images with the same layers share the file.
    pub rootfs: PathBuf,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Digest of the layer as stored, compressed.
    pub digest: Digest,
    /// Digest of its uncompressed bytes.
    pub diff_id: Digest,
    /// Size as stored, compressed, in bytes.
    pub size: u64,
}

impl Image {
    /// The first 12 hex digits of the id, for tables.
    pub fn short_id(&self) -> String {
        self.id.hex()[..12].to_owned()
    }
}
