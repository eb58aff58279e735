//! Archives by `docker save` and `podman save`: `manifest.json`, a configuration, and layers as tar files.

use std::path::Path;

use serde::Deserialize;

use super::files::Files;
use super::{Loaded, LocalError, name_from_path};
use crate::blobs;
use crate::digest::Digest;
use crate::manifest::{CONFIG, Descriptor, LAYER, Manifest};
use crate::name::ImageName;
use crate::store::Store;

/// One image of the archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn load(
    store: &Store,
    files: &Files,
    path: &Path,
    name: &Option<ImageName>,
) -> Result<Loaded, LocalError> {
    if !files.has("manifest.json") {
        return Err(LocalError::Missing { member: "manifest.json".to_owned() });
    }
    let items: Vec<Item> = files.json("manifest.json")?;
    let item = choose(&items, name.as_ref())?;
    let config = files.bytes(&item.config)?;
    let config_digest = blobs::put(store, &config)?;
    let layers = item.layers.iter().map(|layer| copy_layer(store, files, layer)).collect::<Result<_, _>>()?;
    let manifest = Manifest::new(Descriptor::new(CONFIG, config_digest, config.len() as u64), layers);
    let digest = put_manifest(store, &manifest)?;
    let names = match item.names() {
        names if names.is_empty() => name_from_path(path, None),
        names => names,
    };
    Ok(Loaded { manifest, digest, config, names })
}

impl Item {
    fn names(&self) -> Vec<String> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|tag| tag.parse::<ImageName>().ok()).map(|name| name.to_string()).collect()
    }
}

fn choose<'a>(items: &'a [Item], name: Option<&ImageName>) -> Result<&'a Item, LocalError> {
    let tags = || items.iter().flat_map(Item::names).collect::<Vec<_>>();
    match (name.map(ImageName::to_string), items) {
        (None, []) => Err(LocalError::Missing { member: "image in manifest.json".to_owned() }),
        (None, [only]) => Ok(only),
        (None, _) => Err(LocalError::Several { tags: tags() }),
        (Some(tag), items) => {
            let found = items.iter().find(|item| item.names().contains(&tag));
            found.ok_or_else(|| LocalError::NoSuchTag { tag, tags: tags() })
        }
    }
}

/// Copies a layer. The archive has no digests of its layers: they are verified by the configuration's diff ids when
/// they are read.
fn copy_layer(store: &Store, files: &Files, member: &str) -> Result<Descriptor, LocalError> {
    let (digest, size) = blobs::copy(store, files.open(member)?, Path::new(member), None)?;
    Ok(Descriptor::new(LAYER, digest, size))
}

/// Stores a manifest as a registry would serve it, because the archive's own manifest has no digest.
pub(crate) fn put_manifest(store: &Store, manifest: &Manifest) -> Result<Digest, LocalError> {
    let bytes = serde_json::to_vec(manifest)
        .map_err(|source| LocalError::Unreadable { member: "manifest.json".to_owned(), source })?;
    Ok(blobs::put(store, &bytes)?)
}
