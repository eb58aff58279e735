//! Loads the images of an archive into the store.

use std::path::Path;
use std::sync::Arc;

use crate::download::blocking;
use crate::image::Image;
use crate::local;
use crate::progress::{Event, Progress};
use crate::pull::{self, PullError, PullOptions};
use crate::store::Store;

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
    ) -> Result<Vec<Image>, PullError> {
        let (store, path, options) = (self.clone(), path.to_owned(), options.clone());
        blocking(move || load(&store, &path, &options, &progress)).await
    }
}

fn load(
    store: &Store,
    path: &Path,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Image>, PullError> {
    let _adding = store.lock_shared()?;
    let from = path.display().to_string();
    let loaded = local::load_all(store, path, &options.platform, &options.limits)
        .map_err(|source| PullError::Local { image: from.clone(), source })?;
    let mut images = Vec::new();
    for loaded in loaded {
        let resolved = pull::accept(loaded, &from, options)?;
        images.push(pull::build_and_record(store, resolved, &options.limits, &from, progress)?);
    }
    progress.event(Event::Stored);
    Ok(images)
}
