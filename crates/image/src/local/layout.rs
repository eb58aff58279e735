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

pub(crate) const INDEX: &str = "index.json";
pub(crate) const TAG: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";
const MAX_INDEX_DEPTH: usize = 3;

pub(super) fn load(
    store: &Store,
    files: &Files,
    path: &Path,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Loaded, LocalError> {
    let index: Index = files.json(INDEX)?;
    let entry = choose(&index, tag, platform)?;
    let mut loaded = load_entry(store, files, &entry, platform)?;
    if loaded.names.is_empty() {
        loaded.names = name_from_path(path, entry.annotation(TAG).or(tag));
    }
    Ok(loaded)
}

/// Copies all images for the platform.
pub(super) fn load_all(store: &Store, files: &Files, platform: &Platform) -> Result<Vec<Loaded>, LocalError> {
    let index: Index = files.json(INDEX)?;
    let fits =
        |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|declared| declared.matches(platform));
    let entries: Vec<_> = index.manifests.iter().filter(fits).collect();
    if entries.is_empty() {
        // Names what there is instead.
        manifest::select(&index, platform)?;
    }
    let mut images: Vec<Loaded> = Vec::new();
    for entry in entries {
        let mut loaded = load_entry(store, files, entry, platform)?;
        if loaded.names.is_empty() {
            // A plain tag is a name of localhost, as in podman.
            let tag = entry.annotation(TAG).and_then(|tag| ImageName::new_local(tag).ok());
            loaded.names.extend(tag.map(|name| name.to_string()));
        }
        // An entry for each name.
        match images.iter_mut().find(|image| image.digest == loaded.digest) {
            Some(image) => image.names.extend(loaded.names),
            None => images.push(loaded),
        }
    }
    Ok(images)
}

fn load_entry(
    store: &Store,
    files: &Files,
    entry: &Descriptor,
    platform: &Platform,
) -> Result<Loaded, LocalError> {
    let names = full_name(entry).into_iter().collect();
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

/// The image's full name, if the layout has one.
fn full_name(entry: &Descriptor) -> Option<String> {
    let tag = entry.annotation(TAG).filter(|name| name.contains('/'));
    let name = entry.annotation(FULL_NAME).or(tag)?;
    name.parse::<ImageName>().ok().map(|name| name.to_string())
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
