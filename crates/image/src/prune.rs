//! Gives back the disk that nothing needs.

use std::path::PathBuf;

use serde::Serialize;

use crate::commit::FileError;
use crate::digest::Digest;
use crate::garbage;
use crate::image::Image;
use crate::records;
use crate::store::Store;

/// Why a prune stopped. What it had removed by then is gone.
#[derive(Debug, thiserror::Error)]
#[error("the image store cannot be pruned")]
pub struct PruneError {
    /// Why.
    #[from]
    source: FileError,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes of disk given back.
    pub freed: u64,
    /// A pull or an import is under way, so no content was removed; another prune will.
    pub busy: bool,
    /// Records that could not be read. They stay, with all content that they mention, until somebody removes them.
    pub set_aside: Vec<PathBuf>,
}

impl Store {
    /// Removes images without a name, or with `all` every image, unless `in_use` says who uses it; then all
    /// content that no image needs, partial downloads and what dead processes left.
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
