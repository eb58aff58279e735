//! All images of the store.

use std::path::PathBuf;

use crate::commit::FileError;
use crate::image::Image;
use crate::records;
use crate::store::Store;

/// What [`Store::list`] finds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The newest first.
    pub images: Vec<Image>,
    /// Records that could not be read; each is kept under this name for whoever wants to look.
    pub set_aside: Vec<PathBuf>,
}

impl Store {
    /// All images, the newest first.
    ///
    /// # Errors
    /// When the store's folder cannot be read. A record that cannot be read is no error but is set aside and told.
    pub fn list(&self) -> Result<Listing, FileError> {
        let records = records::load(self)?;
        let mut images = records.images(self);
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(Listing { images, set_aside: records.set_aside })
    }
}
