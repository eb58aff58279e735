//! Removes a name, or an image with the content that only it needs, from the store.

use serde::{Deserialize, Serialize};

use crate::commit::{self, FileError};
use crate::digest::Digest;
use crate::find::{self, FindError, Found};
use crate::garbage;
use crate::image::Image;
use crate::records::{self, Records};
use crate::store::Store;

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such image.
    #[error("there is no image {text:?}")]
    NotFound {
        /// The given text.
        text: String,
    },
    /// A machine uses it.
    #[error("image {text:?} is in use by {user}")]
    InUse {
        /// The given text.
        text: String,
        /// The user, as returned by the caller's predicate.
        user: String,
    },
    /// The image was given by id and has several names.
    #[error("image {text:?} has several names: {}", .names.join(", "))]
    SeveralNames {
        /// The given text.
        text: String,
        /// Its names.
        names: Vec<String>,
    },
    /// The text matches several images.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A file of the store cannot be read or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The result of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Removed names.
    pub untagged: Vec<String>,
    /// The image, if it was removed too.
    pub deleted: Option<Digest>,
    /// Disk space freed, in bytes. 0 while a pull is in progress: the next prune removes the content.
    pub freed: u64,
}

impl Store {
    /// Removes an image by name or id. If the image has other names, only the given name is removed.
    ///
    /// `in_use` returns the user of an image, if there is one. It is not called with `force`, or if only a name is
    /// removed. A machine that has the filesystem open keeps it until it closes it.
    ///
    /// # Errors
    /// When there is no such image, several match, it is in use, or it was given by id and has several names.
    pub fn remove(
        &self,
        text: &str,
        force: bool,
        in_use: &dyn Fn(&Image) -> Option<String>,
    ) -> Result<Removed, RemoveError> {
        let mut removed = self.remove_records(text, force, in_use)?;
        if removed.deleted.is_some()
            && let Some(lock) = self.try_lock_exclusive()?
        {
            removed.freed = garbage::collect(self, &lock, false)?;
        }
        Ok(removed)
    }

    fn remove_records(
        &self,
        text: &str,
        force: bool,
        in_use: &dyn Fn(&Image) -> Option<String>,
    ) -> Result<Removed, RemoveError> {
        let _lock = self.lock_records()?;
        let records = records::load(self)?;
        let (found, image) = self.lookup(&records, text)?;
        if let Some(name) = found.name.filter(|_| image.names.len() > 1) {
            commit::remove(&records::name_path(self, &name))?;
            return Ok(Removed { untagged: vec![name], ..Removed::default() });
        }
        if !force {
            check(text, &image, in_use)?;
        }
        garbage::remove_records(self, image.id, &image.names)?;
        Ok(Removed { untagged: image.names, deleted: Some(image.id), freed: 0 })
    }

    fn lookup(&self, records: &Records, text: &str) -> Result<(Found, Image), RemoveError> {
        let missing = || RemoveError::NotFound { text: text.to_owned() };
        let found = find::find_id(records, text)?.ok_or_else(missing)?;
        let image = records.image(self, found.id).ok_or_else(missing)?;
        Ok((found, image))
    }
}

fn check(text: &str, image: &Image, in_use: &dyn Fn(&Image) -> Option<String>) -> Result<(), RemoveError> {
    let text = text.to_owned();
    if image.names.len() > 1 {
        return Err(RemoveError::SeveralNames { text, names: image.names.clone() });
    }
    in_use(image).map_or(Ok(()), |user| Err(RemoveError::InUse { text, user }))
}
