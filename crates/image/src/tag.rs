//! Adds names to images, and takes names from them.

use crate::commit::{self, FileError};
use crate::digest::Digest;
use crate::find::{self, FindError};
use crate::name::ImageName;
use crate::records::{self, Records};
use crate::store::Store;

/// Why names were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// There is no such image.
    #[error("{text}: image not known")]
    NoImage {
        /// The given text.
        text: String,
    },
    /// The image does not have this name.
    #[error("{name}: tag not known")]
    NoName {
        /// The name.
        name: String,
    },
    /// A digest cannot be chosen as a name.
    #[error("cannot tag an image with {name}: a new name has no digest")]
    HasDigest {
        /// The name.
        name: String,
    },
    /// The text matches several images.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A record cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Gives an image further names. A name of another image moves to it.
    ///
    /// # Errors
    /// When there is no such image, several match, or a name has a digest. No name is changed then.
    pub fn tag(&self, text: &str, names: &[ImageName]) -> Result<(), TagError> {
        if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
            return Err(TagError::HasDigest { name: name.to_string() });
        }
        let _lock = self.lock_records()?;
        let id = identify(&records::load(self)?, text)?;
        names.iter().try_for_each(|name| Ok(records::save_name(self, &name.to_string(), id)?))
    }

    /// Takes names from an image; without names, all that it has. The image stays.
    ///
    /// # Errors
    /// When there is no such image, several match, or it does not have one of the names. No name is changed then.
    pub fn untag(&self, text: &str, names: &[ImageName]) -> Result<(), TagError> {
        let _lock = self.lock_records()?;
        let records = records::load(self)?;
        let id = identify(&records, text)?;
        let own = records.names_of(id);
        let removed: Vec<String> =
            if names.is_empty() { own.clone() } else { names.iter().map(ImageName::to_string).collect() };
        if let Some(name) = removed.iter().find(|name| !own.contains(name)) {
            return Err(TagError::NoName { name: name.clone() });
        }
        removed.iter().try_for_each(|name| Ok(commit::remove(&records::name_path(self, name)).map(drop)?))
    }
}

fn identify(records: &Records, text: &str) -> Result<Digest, TagError> {
    let found = find::find_id(records, text)?;
    found.map(|found| found.id).ok_or_else(|| TagError::NoImage { text: text.to_owned() })
}
