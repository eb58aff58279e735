//! An OCI layout: `index.json` and `blobs/sha256/<hex>`.

use std::path::Path;

use super::files::Files;
use super::{Loaded, LocalError, name_from_path};
use crate::blobs;
use crate::digest::Digest;
use crate::manifest::{self, Descriptor, DocumentError, Index, Manifest, Parsed};
use crate::name::ImageName;
use crate::platform::Platform;
use crate::store::Store;

const TAG: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";
const MAX_INDEX_DEPTH: usize = 3;

pub(super) fn load(
    store: &Store,
    files: &Files,
    path: &Path,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Loaded, LocalError> {
    let index: Index = files.json("index.json")?;
    let entry = choose(&index, tag, platform)?;
    let names = names(&entry, path, tag);
    let (manifest, digest) = resolve(store, files, entry.digest, platform)?;
    let config = document(store, files, manifest.config.digest)?;
    // Layers of another platform are not copied: the caller refuses the configuration.
    if manifest::parse_config(&config, &manifest, platform).is_ok() {
        manifest.layers.iter().try_for_each(|layer| copy_layer(store, files, layer))?;
    }
    Ok(Loaded { manifest, digest, config, names })
}

fn choose(index: &Index, tag: Option<&str>, platform: &Platform) -> Result<Descriptor, LocalError> {
    let Some(tag) = tag else { return choose_only(index, platform) };
    let found = index.manifests.iter().find(|entry| has_tag(entry, tag));
    found.cloned().ok_or_else(|| LocalError::NoSuchTag { tag: tag.to_owned(), tags: tags(index) })
}

/// Selects the image without a tag: the index must have one image, or one image for several platforms.
fn choose_only(index: &Index, platform: &Platform) -> Result<Descriptor, LocalError> {
    match &index.manifests[..] {
        [] => Err(LocalError::Missing { member: "image in index.json".to_owned() }),
        [only] => Ok(only.clone()),
        several
            if several.iter().all(|entry| entry.platform.is_some() && entry.annotation(TAG).is_none()) =>
        {
            Ok(manifest::select(index, platform)?)
        }
        _ => Err(LocalError::Several { tags: tags(index) }),
    }
}

fn has_tag(entry: &Descriptor, tag: &str) -> bool {
    entry.annotation(TAG) == Some(tag) || entry.annotation(FULL_NAME) == Some(tag)
}

fn tags(index: &Index) -> Vec<String> {
    index.manifests.iter().filter_map(|entry| entry.annotation(TAG)).map(str::to_owned).collect()
}

/// A full name in the layout is used; otherwise the name comes from the layout's file name.
fn names(entry: &Descriptor, path: &Path, tag: Option<&str>) -> Vec<String> {
    let written = entry.annotation(TAG).or(tag);
    let full = entry.annotation(FULL_NAME).or(written.filter(|name| name.contains('/')));
    match full.and_then(|name| name.parse::<ImageName>().ok()) {
        Some(name) => vec![name.to_string()],
        None => name_from_path(path, written),
    }
}

fn resolve(
    store: &Store,
    files: &Files,
    mut digest: Digest,
    platform: &Platform,
) -> Result<(Manifest, Digest), LocalError> {
    for _ in 0..MAX_INDEX_DEPTH {
        match manifest::parse(&document(store, files, digest)?, digest)? {
            Parsed::Image(manifest) => return Ok((manifest, digest)),
            Parsed::Index(index) => digest = manifest::select(&index, platform)?.digest,
        }
    }
    Err(DocumentError::TooDeep { limit: MAX_INDEX_DEPTH }.into())
}

fn member(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn document(store: &Store, files: &Files, digest: Digest) -> Result<Vec<u8>, LocalError> {
    let member = member(digest);
    let bytes = files.bytes(&member)?;
    let actual = Digest::compute(&bytes);
    if actual != digest {
        return Err(LocalError::WrongDigest { member, actual });
    }
    blobs::put(store, &bytes)?;
    Ok(bytes)
}

fn copy_layer(store: &Store, files: &Files, layer: &Descriptor) -> Result<(), LocalError> {
    if store.blob(layer.digest).exists() {
        return Ok(());
    }
    let member = member(layer.digest);
    let (actual, _) = blobs::copy(store, files.open(&member)?, Path::new(&member), Some(layer.digest))?;
    if actual == layer.digest { Ok(()) } else { Err(LocalError::WrongDigest { member, actual }) }
}
