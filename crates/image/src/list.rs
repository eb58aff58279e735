//! Lists the images of the store.

use std::path::PathBuf;

use crate::commit::FileError;
use crate::image::Image;
use crate::records;
use crate::store::Store;

/// The result of [`Store::list`].
#[derive(Debug, Default)]
pub struct Listing {
    /// The images, newest first.
    pub images: Vec<Image>,
    /// Records that could not be read. Each is kept under this name for inspection.
    pub set_aside: Vec<PathBuf>,
}

impl Store {
    /// Lists all images, newest first.
    ///
    /// # Errors
    /// When the store's folder cannot be read. An unreadable record is not an error: it is set aside and reported.
    pub fn list(&self) -> Result<Listing, FileError> {
        let records = records::load(self)?;
        let mut images = records.images(self);
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(Listing { images, set_aside: records.set_aside })
    }
}
