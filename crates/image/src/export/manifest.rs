//! An image's documents and layers as they are exported, and manifests in the media types of OCI or of docker.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::ExportError;
use crate::commit::FileError;
use crate::digest::Digest;
use crate::image::{Image, LayerInfo};
use crate::manifest::{CONFIG, LAYER, MANIFEST};
use crate::store::Store;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// The family of media types that a manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Oci,
    Docker,
}

/// A manifest, ready to be written.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
}

/// Fails unless the store has the image's documents and layers.
pub(crate) fn check_complete(store: &Store, image: &Image) -> Result<(), ExportError> {
    let mut needed = vec![("manifest".to_owned(), image.digest), ("configuration".to_owned(), image.id)];
    needed.extend(image.layers.iter().map(|layer| (format!("layer {}", layer.digest), layer.digest)));
    match needed.into_iter().find(|(_, digest)| !store.blob(*digest).exists()) {
        Some((what, _)) => Err(ExportError::Missing { image: image.id.to_string(), what }),
        None => Ok(()),
    }
}

/// The manifest as it was received.
pub(crate) fn original(store: &Store, image: &Image) -> Result<Document, ExportError> {
    let path = store.blob(image.digest);
    let bytes = fs::read(&path).map_err(FileError::at("read", &path))?;
    let value: Value = serde_json::from_slice(&bytes)?;
    let declared = value.get("mediaType").and_then(Value::as_str);
    let is_docker = value["config"]["mediaType"] == DOCKER_CONFIG;
    let media_type = declared.unwrap_or(if is_docker { DOCKER_MANIFEST } else { MANIFEST }).to_owned();
    Ok(Document { bytes, digest: image.digest, media_type })
}

/// The manifest in a family of media types: as it was received, if it is of that family.
pub(crate) fn of_family(store: &Store, image: &Image, family: Family) -> Result<Document, ExportError> {
    let original = original(store, image)?;
    let (media_type, config) = match family {
        Family::Oci => (MANIFEST, CONFIG),
        Family::Docker => (DOCKER_MANIFEST, DOCKER_CONFIG),
    };
    if original.media_type == media_type {
        return Ok(original);
    }
    let mut value: Value = serde_json::from_slice(&original.bytes)?;
    value["mediaType"] = media_type.into();
    value["config"]["mediaType"] = config.into();
    for layer in value["layers"].as_array_mut().into_iter().flatten() {
        let text = layer["mediaType"].as_str().unwrap_or_default();
        let converted = convert_layer(text, family).ok_or_else(|| ExportError::Format {
            image: image.id.to_string(),
            reason: format!("no media type for a layer of type {text:?}"),
        })?;
        layer["mediaType"] = converted.into();
    }
    let bytes = serde_json::to_vec(&value)?;
    Ok(Document { digest: Digest::compute(&bytes), bytes, media_type: media_type.to_owned() })
}

/// Docker has no zstd, and writes a dot where OCI writes a plus.
fn convert_layer(media_type: &str, family: Family) -> Option<String> {
    let bases = [(LAYER, DOCKER_LAYER), (FOREIGN_LAYER, DOCKER_FOREIGN_LAYER)];
    for (oci, docker) in bases {
        let (from, to) = match family {
            Family::Oci => (docker, oci),
            Family::Docker => (oci, docker),
        };
        let suffix = match (media_type.strip_prefix(from), family) {
            (Some(""), _) => "",
            (Some(".gzip"), Family::Oci) => "+gzip",
            (Some(".zstd"), Family::Oci) => "+zstd",
            (Some("+gzip"), Family::Docker) => ".gzip",
            _ => continue,
        };
        return Some(format!("{to}{suffix}"));
    }
    None
}

/// The image's blobs without the manifest, each once: the configuration and the layers.
pub(crate) fn blobs(store: &Store, image: &Image) -> Vec<(Digest, PathBuf)> {
    let mut digests: Vec<Digest> = image.layers.iter().map(|layer: &LayerInfo| layer.digest).collect();
    digests.push(image.id);
    digests.sort();
    digests.dedup();
    digests.into_iter().map(|digest| (digest, store.blob(digest))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_converted_both_ways() {
        let docker = |text: &str| convert_layer(text, Family::Docker);
        let oci = |text: &str| convert_layer(text, Family::Oci);
        assert_eq!(docker(&format!("{LAYER}+gzip")).unwrap(), format!("{DOCKER_LAYER}.gzip"));
        assert_eq!(docker(LAYER).unwrap(), DOCKER_LAYER);
        assert_eq!(docker(&format!("{LAYER}+zstd")), None);
        assert_eq!(oci(&format!("{DOCKER_LAYER}.gzip")).unwrap(), format!("{LAYER}+gzip"));
        assert_eq!(oci(&format!("{DOCKER_FOREIGN_LAYER}.gzip")).unwrap(), format!("{FOREIGN_LAYER}+gzip"));
        assert_eq!(oci("text/plain"), None);
    }
}
