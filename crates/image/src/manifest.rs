//! Manifests and indexes of OCI and of docker's schema 2, which differ only in their media types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ConfigDocument;
use crate::digest::Digest;
use crate::platform::Platform;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media types that are requested from a registry.
pub(crate) const ACCEPTED: [&str; 4] = [
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A reference to content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: None }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// One image for one platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(MANIFEST.to_owned()), config, layers }
    }
}

/// Images for several platforms, or with several names in a layout.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// A parsed manifest or index.
#[derive(Debug)]
pub(crate) enum Parsed {
    Image(Manifest),
    Index(Index),
}

/// Why an image's documents are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The manifest cannot be parsed.
    #[error("manifest {digest} cannot be read")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why.
        source: serde_json::Error,
    },
    /// Docker's old schema 1, or a newer one.
    #[error("manifest {digest} has schema version {version}, only 2 is supported")]
    SchemaVersion {
        /// Its digest.
        digest: Digest,
        /// Its schema version.
        version: u64,
    },
    /// The configuration is not that of an image.
    #[error("{digest} is not the configuration of an image")]
    Config {
        /// Its digest.
        digest: Digest,
        /// Why.
        source: serde_json::Error,
    },
    /// The numbers of layers and diff ids differ.
    #[error("the manifest has {layers} layers, the configuration {diff_ids}")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the configuration.
        diff_ids: usize,
    },
    /// The index has no image for the requested platform.
    #[error("there is no image for {requested}, only for {}", list(.available))]
    NoPlatform {
        /// The requested platform.
        requested: Platform,
        /// The available platforms.
        available: Vec<Platform>,
    },
    /// The image is for another platform.
    #[error("the image is for {actual}, not for {requested}")]
    OtherPlatform {
        /// The requested platform.
        requested: Platform,
        /// The image's platform.
        actual: Platform,
    },
    /// Indexes are nested too deeply.
    #[error("its indexes are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

/// Parses a manifest or an index.
pub(crate) fn parse(bytes: &[u8], digest: Digest) -> Result<Parsed, DocumentError> {
    let unreadable = |source| DocumentError::Manifest { digest, source };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let version = value.get("schemaVersion").and_then(serde_json::Value::as_u64).unwrap_or(2);
    if version != 2 {
        return Err(DocumentError::SchemaVersion { digest, version });
    }
    if value.get("manifests").is_some() {
        return serde_json::from_value(value).map(Parsed::Index).map_err(unreadable);
    }
    serde_json::from_value(value).map(Parsed::Image).map_err(unreadable)
}

/// Selects the entry for a platform. A single entry without a platform is accepted: its configuration is checked later.
pub(crate) fn select(index: &Index, requested: &Platform) -> Result<Descriptor, DocumentError> {
    let matches =
        |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|declared| declared.matches(requested));
    let found = index.manifests.iter().find(matches);
    let lone =
        || index.manifests.first().filter(|entry| index.manifests.len() == 1 && entry.platform.is_none());
    found.or_else(lone).cloned().ok_or_else(|| DocumentError::NoPlatform {
        requested: requested.clone(),
        available: index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect(),
    })
}

/// Parses a configuration and checks that it matches the manifest and the platform.
pub(crate) fn parse_config(
    bytes: &[u8],
    manifest: &Manifest,
    requested: &Platform,
) -> Result<ConfigDocument, DocumentError> {
    let digest = manifest.config.digest;
    let document: ConfigDocument =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Config { digest, source })?;
    let actual = Platform { os: document.os.clone(), architecture: document.architecture.clone() };
    if !actual.matches(requested) {
        return Err(DocumentError::OtherPlatform { requested: requested.clone(), actual });
    }
    let (layers, diff_ids) = (manifest.layers.len(), document.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(DocumentError::LayerCount { layers, diff_ids });
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Index {
        match parse(text.as_bytes(), Digest::compute(b"")).unwrap() {
            Parsed::Index(index) => index,
            Parsed::Image(_) => panic!("an image"),
        }
    }

    #[test]
    fn a_missing_platform_lists_the_available_ones() {
        let entry = |arch: &str| {
            let digest = Digest::compute(arch.as_bytes());
            format!(
                r#"{{"mediaType":"m","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{arch}"}}}}"#
            )
        };
        let index =
            index(&format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("arm64"), entry("s390x")));
        assert_eq!(
            select(&index, &"linux/arm64".parse().unwrap()).unwrap().digest,
            Digest::compute(b"arm64")
        );
        let error = select(&index, &"linux/amd64".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "there is no image for linux/amd64, only for linux/arm64, linux/s390x");
    }

    #[test]
    fn old_schemas_are_refused() {
        let error = parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, Digest::compute(b"")).unwrap_err();
        assert!(matches!(error, DocumentError::SchemaVersion { version: 1, .. }));
        assert!(parse(b"not json", Digest::compute(b"")).is_err());
    }
}
