//! Loads the images of an archive into the store.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::commit::{self, FileError};
use crate::download::blocking;
use crate::image::Image;
use crate::local;
use crate::progress::{Event, Progress};
use crate::pull::{self, PullError, PullOptions};
use crate::store::Store;

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The image; it may have had other names already.
    pub image: Image,
    /// Its names in the archive.
    pub names: Vec<String>,
}

impl Store {
    /// Loads all images of a docker-archive, an OCI archive or an OCI layout directory; an archive may be compressed.
    /// Images without a name in it are identified by their id only.
    ///
    /// # Errors
    /// With the failed step and its reason. Images that were loaded before stay.
    pub async fn load(
        &self,
        path: &Path,
        options: &PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<LoadedImage>, PullError> {
        let (store, path, options) = (self.clone(), path.to_owned(), options.clone());
        blocking(move || load(&store, &path, &path, &options, &progress)).await
    }
}

impl Store {
    /// As [`Store::load`], from a stream, which is copied to the store's disk first. `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Store::load`], or when the stream cannot be read.
    pub async fn load_stream(
        &self,
        stream: impl Read + Send + 'static,
        origin: &Path,
        options: &PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<LoadedImage>, PullError> {
        let (store, origin, options) = (self.clone(), origin.to_owned(), options.clone());
        blocking(move || {
            let _adding = store.lock_shared()?;
            let copy = copy(&store, stream, &origin)?;
            load(&store, copy.path(), &origin, &options, &progress)
        })
        .await
    }
}

fn copy(store: &Store, mut stream: impl Read, origin: &Path) -> Result<NamedTempFile, FileError> {
    let mut file = commit::create_temporary(&store.temporary())?;
    io::copy(&mut stream, file.as_file_mut()).map_err(FileError::at("copy", origin))?;
    Ok(file)
}

fn load(
    store: &Store,
    path: &Path,
    origin: &Path,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<LoadedImage>, PullError> {
    let _adding = store.lock_shared()?;
    let from = origin.display().to_string();
    let loaded = local::load_all(store, path, origin, &options.platform, &options.limits)
        .map_err(|source| PullError::Local { image: from.clone(), source })?;
    let mut images = Vec::new();
    for loaded in loaded {
        let resolved = pull::accept(loaded, &from, options)?;
        let names = resolved.names.clone();
        let image = pull::build_and_record(store, resolved, &options.limits, &from, progress)?;
        images.push(LoadedImage { image, names });
    }
    progress.event(Event::Stored);
    Ok(images)
}
