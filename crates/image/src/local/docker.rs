//! Archives by `docker save` and `podman save`: `manifest.json`, a configuration, and layers as tar files.

use std::path::Path;

use serde::Deserialize;

use super::files::Files;
use super::{Loaded, LocalError, name_from_path};
use crate::blobs;
use crate::commit::FileError;
use crate::digest::Digest;
use crate::layer;
use crate::manifest::{CONFIG, Descriptor, Manifest};
use crate::name::ImageName;
use crate::store::Store;

/// The archive's list of its images.
pub(crate) const MANIFEST: &str = "manifest.json";

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
    if !files.has(MANIFEST) {
        return Err(LocalError::Missing { member: MANIFEST.to_owned() });
    }
    let items: Vec<Item> = files.json(MANIFEST)?;
    let item = choose(&items, name.as_ref())?;
    let mut loaded = load_item(store, files, item)?;
    if loaded.names.is_empty() {
        loaded.names = name_from_path(path, None);
    }
    Ok(loaded)
}

/// Copies all images of the archive.
pub(super) fn load_all(store: &Store, files: &Files) -> Result<Vec<Loaded>, LocalError> {
    let items: Vec<Item> = files.json(MANIFEST)?;
    items.iter().map(|item| load_item(store, files, item)).collect()
}

fn load_item(store: &Store, files: &Files, item: &Item) -> Result<Loaded, LocalError> {
    let config = files.bytes(&item.config)?;
    let config_digest = blobs::put(store, &config)?;
    let layers = item.layers.iter().map(|layer| copy_layer(store, files, layer)).collect::<Result<_, _>>()?;
    let manifest = Manifest::new(Descriptor::new(CONFIG, config_digest, config.len() as u64), layers);
    let digest = put_manifest(store, &manifest)?;
    Ok(Loaded { manifest, digest, config, names: item.names() })
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
    let blob = store.blob(digest);
    let media_type = layer::media_type(&blob).map_err(FileError::at("read", &blob))?;
    Ok(Descriptor::new(&media_type, digest, size))
}

/// Stores a manifest as a registry would serve it, because the archive's own manifest has no digest.
pub(crate) fn put_manifest(store: &Store, manifest: &Manifest) -> Result<Digest, LocalError> {
    let bytes = serde_json::to_vec(manifest)
        .map_err(|source| LocalError::Unreadable { member: "manifest.json".to_owned(), source })?;
    Ok(blobs::put(store, &bytes)?)
}
