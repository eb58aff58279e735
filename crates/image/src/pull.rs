//! Pulls an image from a source into the store.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::blobs;
use crate::build::{self, BuildError};
use crate::commit::FileError;
use crate::config::{ConfigDocument, ImageConfig};
use crate::credentials::CredentialsError;
use crate::digest::Digest;
use crate::download::{self, DownloadError, blocking};
use crate::image::{Image, LayerInfo};
use crate::limits::Limits;
use crate::local::{self, Loaded, LocalError};
use crate::manifest::{self, DocumentError, Manifest, Parsed};
use crate::name::ImageName;
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::records::{self, ImageRow};
use crate::registry::{Access, ConnectError, Registry, RegistryError, RegistryOptions};
use crate::source::Source;
use crate::store::Store;

/// Options of a pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The platform to select. The host's by default.
    pub platform: Platform,
    /// How registries are accessed.
    pub registry: RegistryOptions,
    /// Layers downloaded concurrently.
    pub concurrency: usize,
    /// Limits on the image.
    pub limits: Limits,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            registry: RegistryOptions::default(),
            concurrency: 4,
            limits: Limits::default(),
        }
    }
}

/// Why an image was not pulled. The store is unchanged, except for content that the next attempt can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry or the connection failed.
    #[error("{image} cannot be pulled")]
    Registry {
        /// The image's full name.
        image: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// A login file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A local file cannot be loaded as an image.
    #[error("{image} cannot be loaded")]
    Local {
        /// The source, as given.
        image: String,
        /// Why.
        source: LocalError,
    },
    /// The image's manifest or configuration is refused, or is for another platform.
    #[error("{image} cannot be used")]
    Document {
        /// The source.
        image: String,
        /// Why.
        source: DocumentError,
    },
    /// A layer could not be downloaded.
    #[error("{image} cannot be pulled")]
    Download {
        /// The image's full name.
        image: String,
        /// Why.
        source: DownloadError,
    },
    /// The filesystem could not be built from its layers.
    #[error("cannot build a filesystem from {image}")]
    Build {
        /// The source.
        image: String,
        /// Why.
        source: BuildError,
    },
    /// A file of the store cannot be read or written.
    #[error(transparent)]
    Store(#[from] FileError),
}

impl PullError {
    pub(crate) fn registry(name: &ImageName, source: RegistryError) -> Self {
        Self::Registry { image: name.to_string(), source: Box::new(source) }
    }

    fn connect(name: &ImageName, error: ConnectError) -> Self {
        match error {
            ConnectError::Credentials(source) => Self::Credentials(source),
            ConnectError::Registry(source) => Self::registry(name, source),
        }
    }

    fn document(image: &impl ToString) -> impl FnOnce(DocumentError) -> Self {
        let image = image.to_string();
        |source| Self::Document { image, source }
    }
}

/// An image whose documents have been read and accepted.
pub(crate) struct Resolved {
    manifest: Manifest,
    digest: Digest,
    document: ConfigDocument,
    pub(crate) names: Vec<String>,
}

impl Resolved {
    fn layers(&self) -> Vec<LayerInfo> {
        let pairs = self.manifest.layers.iter().zip(&self.document.rootfs.diff_ids);
        pairs
            .map(|(layer, diff_id)| LayerInfo { digest: layer.digest, diff_id: *diff_id, size: layer.size })
            .collect()
    }

    /// Whether all layers are in the store. Those of an image with the same content, but compressed otherwise, are
    /// not: this image's own are needed to save and push it.
    fn is_complete(&self, store: &Store) -> bool {
        self.manifest.layers.iter().all(|layer| store.blob(layer.digest).exists())
    }
}

const MAX_INDEX_DEPTH: usize = 3;

impl Store {
    /// Pulls an image and builds its filesystem. Content that is already in the store is not downloaded again. A tag
    /// that has moved in the registry moves in the store too.
    ///
    /// # Errors
    /// With the failed step and its reason. Layers that were downloaded stay for the next attempt.
    pub async fn pull(
        &self,
        source: &Source,
        options: &PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, PullError> {
        let store = self.clone();
        let _adding = blocking(move || store.lock_shared()).await?;
        let resolved = match source {
            Source::Registry(name) => self.pull_registry(name, options, &progress).await?,
            local => self.load_local(local, options, &progress).await?,
        };
        let (store, limits, image) = (self.clone(), options.limits.clone(), source.to_string());
        let finish_progress = Arc::clone(&progress);
        let image =
            blocking(move || build_and_record(&store, resolved, &limits, &image, &finish_progress)).await?;
        progress.event(Event::Stored);
        Ok(image)
    }

    async fn pull_registry(
        &self,
        name: &ImageName,
        options: &PullOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Resolved, PullError> {
        let registry = Registry::connect(name, &options.registry, Access::Pull).await;
        let registry = registry.map_err(|error| PullError::connect(name, error))?;
        let resolved = resolve(self, &registry, name, options).await?;
        report_resolved(&resolved, progress);
        if !resolved.is_complete(self) {
            download_all(self, &registry, &resolved, options, progress)
                .await
                .map_err(|source| PullError::Download { image: name.to_string(), source })?;
        }
        Ok(resolved)
    }

    async fn load_local(
        &self,
        source: &Source,
        options: &PullOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Resolved, PullError> {
        let (store, from, platform) = (self.clone(), source.clone(), options.platform.clone());
        let limits = options.limits.clone();
        let loaded = blocking(move || local::load(&store, &from, &platform, &limits)).await;
        let loaded = loaded.map_err(|error| PullError::Local { image: source.to_string(), source: error })?;
        let resolved = accept(loaded, source, options)?;
        report_resolved(&resolved, progress);
        Ok(resolved)
    }
}

/// Accepts an image of a file if its configuration is one for the platform.
pub(crate) fn accept(
    loaded: Loaded,
    from: &impl ToString,
    options: &PullOptions,
) -> Result<Resolved, PullError> {
    let document = manifest::parse_config(&loaded.config, &loaded.manifest, &options.platform);
    let document = document.map_err(PullError::document(from))?;
    Ok(Resolved { manifest: loaded.manifest, digest: loaded.digest, document, names: loaded.names })
}

/// Follows an index to the platform's manifest and fetches the configuration. Stores all documents.
async fn resolve(
    store: &Store,
    registry: &Registry,
    name: &ImageName,
    options: &PullOptions,
) -> Result<Resolved, PullError> {
    let (mut bytes, mut digest) = registry.manifest(None).await.map_err(|e| PullError::registry(name, e))?;
    for _ in 0..MAX_INDEX_DEPTH {
        blobs::put(store, &bytes)?;
        match manifest::parse(&bytes, digest).map_err(PullError::document(name))? {
            Parsed::Image(manifest) => {
                let config =
                    registry.document(&manifest.config).await.map_err(|e| PullError::registry(name, e))?;
                blobs::put(store, &config)?;
                let document = manifest::parse_config(&config, &manifest, &options.platform);
                let document = document.map_err(PullError::document(name))?;
                return Ok(Resolved { manifest, digest, document, names: vec![name.to_string()] });
            }
            Parsed::Index(index) => {
                let entry = manifest::select(&index, &options.platform).map_err(PullError::document(name))?;
                let next = registry.manifest(Some(entry.digest)).await;
                (bytes, digest) = next.map_err(|e| PullError::registry(name, e))?;
            }
        }
    }
    Err(PullError::document(name)(DocumentError::TooDeep { limit: MAX_INDEX_DEPTH }))
}

fn report_resolved(resolved: &Resolved, progress: &Arc<dyn Progress>) {
    let bytes = resolved.manifest.layers.iter().map(|layer| layer.size).sum();
    progress.event(Event::Resolved {
        digest: resolved.digest,
        layers: resolved.manifest.layers.len(),
        bytes,
    });
}

async fn download_all(
    store: &Store,
    registry: &Registry,
    resolved: &Resolved,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<(), DownloadError> {
    // An image may contain the same layer twice.
    let mut layers: Vec<_> = resolved.manifest.layers.iter().collect();
    layers.sort_by_key(|layer| layer.digest);
    layers.dedup_by_key(|layer| layer.digest);
    // In a list: of a lazy iterator, the compiler cannot prove that it may be sent to another thread.
    let downloads: Vec<_> =
        layers.into_iter().map(|layer| download::layer(store, registry, layer, progress)).collect();
    let mut done = futures_util::stream::iter(downloads).buffer_unordered(options.concurrency.max(1));
    while let Some(result) = done.next().await {
        result?;
    }
    Ok(())
}

/// Builds the filesystem and writes the records. Blocks.
pub(crate) fn build_and_record(
    store: &Store,
    resolved: Resolved,
    limits: &Limits,
    image: &str,
    progress: &Arc<dyn Progress>,
) -> Result<Image, PullError> {
    let layers = resolved.layers();
    let key = build::build(store, &layers, limits, progress)
        .map_err(|source| PullError::Build { image: image.to_owned(), source })?;
    Ok(write_records(
        store,
        resolved.manifest.config.digest,
        resolved.digest,
        resolved.document,
        layers,
        key,
        &resolved.names,
    )?)
}

/// Writes the records of an image whose filesystem exists.
pub(crate) fn write_records(
    store: &Store,
    id: Digest,
    digest: Digest,
    document: ConfigDocument,
    layers: Vec<LayerInfo>,
    key: Digest,
    names: &[String],
) -> Result<Image, FileError> {
    use std::os::unix::fs::MetadataExt;
    let rootfs = store.rootfs(key);
    let meta = std::fs::metadata(&rootfs).map_err(FileError::at("stat", &rootfs))?;
    let mut image = Image {
        id,
        names: Vec::new(),
        digest,
        created: document.created.and_then(|text| text.parse().ok()),
        architecture: document.architecture,
        os: document.os,
        size: meta.blocks() * 512,
        layers,
        config: document.config.map(ImageConfig::from).unwrap_or_default(),
        rootfs,
    };
    records::save(store, &ImageRow::new(&image, key), names)?;
    image.names = records::load(store)?.names_of(id);
    Ok(image)
}
