//! Frees disk space that no image needs.

use std::path::PathBuf;

use serde::Serialize;

use crate::commit::FileError;
use crate::digest::Digest;
use crate::garbage;
use crate::image::Image;
use crate::records;
use crate::store::Store;

/// Why a prune stopped. Content that it removed before stays removed.
#[derive(Debug, thiserror::Error)]
#[error("the image store cannot be pruned")]
pub struct PruneError {
    /// Why.
    #[from]
    source: FileError,
}

/// The result of a prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Removed images.
    pub deleted: Vec<Digest>,
    /// Disk space freed, in bytes.
    pub freed: u64,
    /// A pull or an import is in progress, so no content was removed. A later prune removes it.
    pub busy: bool,
    /// Unreadable records. They are kept, with all content that they mention, until they are removed manually.
    pub set_aside: Vec<PathBuf>,
}

impl Store {
    /// Removes images without a name, or with `all` every image, except those for which `in_use` returns a user. Then
    /// removes all content that no image needs, partial downloads, and leftovers of exited processes.
    ///
    /// # Errors
    /// When a file of the store cannot be read or removed.
    pub fn prune(&self, all: bool, in_use: &dyn Fn(&Image) -> Option<String>) -> Result<Pruned, PruneError> {
        let mut pruned = self.prune_records(all, in_use)?;
        match self.try_lock_exclusive()? {
            Some(lock) => pruned.freed = garbage::collect(self, &lock, true)?,
            None => pruned.busy = true,
        }
        Ok(pruned)
    }

    /// Removes what a pull that was given up has stored and no image needs. While another pull is in progress, nothing is
    /// removed; the next prune does it.
    ///
    /// # Errors
    /// When a file of the store cannot be read or removed.
    pub fn discard_unfinished(&self) -> Result<(), PruneError> {
        if let Some(lock) = self.try_lock_exclusive()? {
            garbage::collect(self, &lock, true)?;
        }
        Ok(())
    }

    fn prune_records(
        &self,
        all: bool,
        in_use: &dyn Fn(&Image) -> Option<String>,
    ) -> Result<Pruned, FileError> {
        let _lock = self.lock_records()?;
        let records = records::load(self)?;
        let mut pruned = Pruned { set_aside: records.set_aside.clone(), ..Pruned::default() };
        for image in records.images(self) {
            if (all || image.names.is_empty()) && in_use(&image).is_none() {
                garbage::remove_records(self, image.id, &image.names)?;
                pruned.deleted.push(image.id);
            }
        }
        Ok(pruned)
    }
}
