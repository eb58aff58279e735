//! Adds an image made of another image's layers and one more: what a commit of a machine needs.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use crate::blobs;
use crate::build::{self, BuildError};
use crate::commit::{self, FileError};
use crate::config::{ConfigDocument, ConfigObject, ImageConfig};
use crate::digest::{Digest, HashingReader, HashingWriter};
use crate::export::ExportError;
use crate::export::manifest::{self, Family};
use crate::history::HistoryEntry;
use crate::image::{Image, LayerInfo};
use crate::limits::Limits;
use crate::manifest::{CONFIG, Descriptor, LAYER, MANIFEST};
use crate::name::ImageName;
use crate::progress::Progress;
use crate::pull;
use crate::store::Store;

/// What the new image has besides the layers.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// The run configuration; none for the base's.
    pub config: Option<ImageConfig>,
    /// The step that made the layer. Its time becomes the image's.
    pub step: HistoryEntry,
    /// The image's names; none for an image that is identified by its id only.
    pub names: Vec<ImageName>,
    /// Limits on all layers together.
    pub limits: Limits,
}

/// Why no image was added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddLayerError {
    /// The base is not complete in the store.
    #[error(transparent)]
    Base(#[from] ExportError),
    /// The filesystem could not be built.
    #[error("cannot build a filesystem with the new layer")]
    Build(#[from] BuildError),
    /// A document could not be decoded or encoded.
    #[error("cannot change the image's documents")]
    Document(#[from] serde_json::Error),
    /// The tar file does not end within the limit on an image's size.
    #[error("{} are more than the limit of {limit} bytes: large files belong in a volume", origin.display())]
    TooLarge {
        /// The tar file.
        origin: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The tar file or a file of the store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Adds an image of the base's layers and an uncompressed tar file with whiteouts, which is stored compressed.
    /// A tar file that is refused leaves nothing in the store. What the base's configuration says beyond the run configuration stays. `origin` names the tar in errors. Blocks.
    ///
    /// # Errors
    /// When the base is not complete in the store, or the tar file is refused like an invalid layer.
    pub fn add_layer(
        &self,
        base: &Image,
        tar: impl Read,
        origin: &Path,
        options: &LayerOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, AddLayerError> {
        let _adding = self.lock_shared()?;
        manifest::check_complete(self, base)?;
        let (layer, file) = compress(self, tar, origin, options.limits.unpacked_bytes)?;
        let mut layers = base.layers.clone();
        layers.push(layer.clone());
        let limits = options.limits.without_ratio();
        let key = build::build_with(self, &layers, Some(file.path()), &limits, &progress)?;
        let blob = self.blob(layer.digest);
        if !blob.exists() {
            commit::persist(file, &blob)?;
        }
        let config = serde_json::to_vec(&new_config(self, base, layer.diff_id, options)?)?;
        let id = blobs::put(self, &config)?;
        let config_descriptor = Descriptor::new(CONFIG, id, config.len() as u64);
        let digest = blobs::put(self, &new_manifest(self, base, &layer, &config_descriptor)?)?;
        let document: ConfigDocument = serde_json::from_slice(&config)?;
        let names: Vec<String> = options.names.iter().map(ImageName::to_string).collect();
        Ok(pull::write_records(self, id, digest, document, layers, key, &names)?)
    }
}

/// Compresses a tar file of up to `limit` bytes into a temporary file.
fn compress(
    store: &Store,
    tar: impl Read,
    origin: &Path,
    limit: u64,
) -> Result<(LayerInfo, NamedTempFile), AddLayerError> {
    let mut file = commit::create_temporary(&store.temporary())?;
    let mut plain = HashingReader::new(tar.take(limit.saturating_add(1)));
    // The header has no time, so the same tar gives the same layer.
    let mut packed = GzEncoder::new(HashingWriter::new(file.as_file_mut()), Compression::default());
    io::copy(&mut plain, &mut packed).map_err(FileError::at("compress", origin))?;
    let mut packed = packed.finish().map_err(FileError::at("compress", origin))?;
    packed.flush().map_err(FileError::at("write", origin))?;
    let (digest, size) = packed.finish();
    let (diff_id, unpacked) = plain.finish();
    if unpacked > limit {
        return Err(AddLayerError::TooLarge { origin: origin.to_owned(), limit });
    }
    Ok((LayerInfo { digest, diff_id, size }, file))
}

/// The base's configuration document with the layer, the step and the run configuration.
fn new_config(
    store: &Store,
    base: &Image,
    diff_id: Digest,
    options: &LayerOptions,
) -> Result<Value, AddLayerError> {
    let path = store.blob(base.id);
    let bytes = std::fs::read(&path).map_err(FileError::at("read", &path))?;
    let mut document: Map<String, Value> = serde_json::from_slice(&bytes)?;
    let mut step = options.step.clone();
    let created = step.created.get_or_insert_with(|| jiff::Timestamp::now().to_string()).clone();
    document.insert("created".to_owned(), created.into());
    if let Some(author) = &step.author {
        document.insert("author".to_owned(), author.as_str().into());
    }
    if let Some(config) = &options.config {
        let new = serde_json::to_value(ConfigObject::from(config.clone()))?;
        change(&mut document, "config", |config| merge(config, new));
    }
    change(&mut document, "rootfs", |rootfs| push(rootfs, "diff_ids", diff_id.to_string().into()));
    push(&mut document, "history", serde_json::to_value(step)?);
    Ok(Value::Object(document))
}

/// Changes a member that is an object, or becomes one.
fn change(document: &mut Map<String, Value>, member: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut object = match document.remove(member) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    change(&mut object);
    document.insert(member.to_owned(), Value::Object(object));
}

fn push(document: &mut Map<String, Value>, member: &str, item: Value) {
    match document.get_mut(member) {
        Some(Value::Array(items)) => items.push(item),
        _ => drop(document.insert(member.to_owned(), json!([item]))),
    }
}

/// Replaces the members of the run configuration that mimeo knows. Null removes one.
fn merge(config: &mut Map<String, Value>, new: Value) {
    let Value::Object(new) = new else { return };
    for (key, value) in new {
        match value {
            Value::Null => drop(config.remove(&key)),
            value => drop(config.insert(key, value)),
        }
    }
}

/// A manifest of the base's layers and the new one.
fn new_manifest(
    store: &Store,
    base: &Image,
    layer: &LayerInfo,
    config: &Descriptor,
) -> Result<Vec<u8>, AddLayerError> {
    let old: Value = serde_json::from_slice(&manifest::of_family(store, base, Family::Oci)?.bytes)?;
    let mut layers = old["layers"].as_array().cloned().unwrap_or_default();
    layers.push(serde_json::to_value(Descriptor::new(&format!("{LAYER}+gzip"), layer.digest, layer.size))?);
    let new = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    Ok(serde_json::to_vec(&new)?)
}
