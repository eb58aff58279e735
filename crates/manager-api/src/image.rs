//! Images.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{PullPolicy, Registry, RegistryAuth, Resource};

/// An image in the manager's store, which all users share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub id: String,
    /// Its full names.
    pub names: Vec<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// Its platform, such as `linux/amd64`.
    pub platform: String,
    /// The disk space that its filesystem uses, in bytes.
    pub size_bytes: u64,
    /// The number of its layers.
    pub layers: u32,
    /// When it was built, if it says so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// Whether a machine or a snapshot uses it.
    pub in_use: bool,
    /// The machines and snapshots that use it, as far as the caller may see them.
    pub used_by: Vec<Resource>,
}

/// An image to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PullImage {
    /// The image: a name such as `nginx:1.27`. Administrators may also give `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or
    /// `docker-archive:FILE[:NAME]`, which are files of the manager's host.
    #[schema(examples("nginx:1.27"))]
    pub reference: String,
    /// The platform, such as `linux/amd64`. Only the host's can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When it is pulled although the store has it. Default: `always`, which transfers only what the store lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PullPolicy>,
    /// How the registry is accessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// The login at the registry, for this pull only. The same as `registry.auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
}

/// A pull of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImagePull {
    /// The image, as requested.
    pub reference: String,
    /// The image, once it is in the store.
    pub image: Option<Image>,
}

/// The `result` of a pull while it goes on: how many layers are complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullLayers {
    /// Layers in the store.
    pub layers_done: u32,
    /// Layers of the image.
    pub layers_total: u32,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedImages {
    /// The names that were removed.
    pub untagged: Vec<String>,
    /// The ids of the images that were removed.
    pub deleted: Vec<String>,
    /// Disk space that was freed, in bytes. While a pull is in progress nothing is freed: the next prune does it.
    pub freed_bytes: u64,
}

/// Which images are removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneImages {
    /// All images that no machine and no snapshot uses, instead of only those without a name.
    pub all: bool,
}
