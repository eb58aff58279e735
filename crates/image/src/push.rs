//! Pushes an image to a registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;

use crate::commit::FileError;
use crate::credentials::CredentialsError;
use crate::digest::Digest;
use crate::download::blocking;
use crate::export::ExportError;
use crate::export::manifest::{self, Document};
use crate::image::Image;
use crate::name::{ImageName, Repository};
use crate::progress::{Event, Progress, Stage};
use crate::records;
use crate::registry::{Access, ConnectError, Registry, RegistryError, RegistryOptions};
use crate::store::Store;
use crate::upload::{self, Blob};

/// Layers uploaded concurrently.
const CONCURRENCY: usize = 4;

/// Why an image was not pushed. The registry may have received some of its layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The name pins a digest, which cannot be chosen.
    #[error("cannot push to {name}: give a tag, not a digest")]
    HasDigest {
        /// The name.
        name: String,
    },
    /// The registry or the connection failed.
    #[error("cannot push to {name}")]
    Registry {
        /// The name.
        name: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// A login file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The image is not complete in the store.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A file of the store cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Pushes an image under a name, with the manifest as it was received. Layers that the registry has are not sent.
    /// Returns the manifest's digest.
    ///
    /// # Errors
    /// When the image is not complete in the store, or the registry refuses it.
    pub async fn push(
        &self,
        image: &Image,
        name: &ImageName,
        options: &RegistryOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Digest, PushError> {
        if name.digest().is_some() {
            return Err(PushError::HasDigest { name: name.to_string() });
        }
        let store = self.clone();
        let _in_use = blocking(move || store.lock_shared()).await?;
        manifest::check_complete(self, image)?;
        let document = manifest::original(self, image)?;
        let digest = document.digest;
        let registry = Registry::connect(name, options, Access::Push).await.map_err(|error| match error {
            ConnectError::Credentials(source) => PushError::Credentials(source),
            ConnectError::Registry(source) => failed(name)(source),
        })?;
        upload_all(self, &registry, image, name, &progress).await?;
        put_manifest(&registry, document).await.map_err(failed(name))?;
        progress.event(Event::Stored);
        Ok(digest)
    }
}

fn failed(name: &ImageName) -> impl FnOnce(RegistryError) -> PushError {
    let name = name.to_string();
    |source| PushError::Registry { name, source: Box::new(source) }
}

async fn upload_all(
    store: &Store,
    registry: &Registry,
    image: &Image,
    name: &ImageName,
    progress: &Arc<dyn Progress>,
) -> Result<(), PushError> {
    let sources = repositories(store, name)?;
    let uploads = manifest::blobs(store, image).into_iter().map(|(digest, path)| {
        let elsewhere = sources.iter().filter(|(_, digests)| digests.contains(&digest));
        let elsewhere = elsewhere.map(|(repository, _)| repository.clone()).next();
        let blob = Blob { digest, path, elsewhere };
        async move { upload::blob(registry, &blob, progress).await }
    });
    let mut done = futures_util::stream::iter(uploads).buffer_unordered(CONCURRENCY);
    while let Some(result) = done.next().await {
        result.map_err(failed(name))?;
    }
    Ok(())
}

/// Other repositories of this registry that images of the store were pulled from, and the layers that they have: a
/// registry takes a layer from one of them without an upload.
fn repositories(store: &Store, name: &ImageName) -> Result<Vec<(Repository, BTreeSet<Digest>)>, FileError> {
    let records = records::load(store)?;
    let named = records
        .names
        .iter()
        .filter_map(|(text, id)| Some((text.parse::<ImageName>().ok()?, records.rows.get(id)?)));
    let others = named
        .filter(|(other, _)| other.registry() == name.registry() && other.repository() != name.repository());
    let layers = others.map(|(other, row)| {
        let digests = row.layers.iter().map(|layer| layer.digest).collect();
        (Repository::from(&other), digests)
    });
    Ok(layers.collect())
}

async fn put_manifest(registry: &Registry, document: Document) -> Result<(), RegistryError> {
    registry.put_manifest(document.bytes, &document.media_type).await
}

/// Reports that a blob is being uploaded, or is in the registry.
pub(crate) fn report(progress: &Arc<dyn Progress>, digest: Digest, stage: Stage, done: u64, total: u64) {
    progress.event(Event::Layer { digest, stage, done, total });
}
