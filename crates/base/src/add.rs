//! Adds a base.

use std::cell::RefCell;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use crate::check::{Check, Outcome, is_usable};
use crate::file_error::FileError;
use crate::flatten::{FlattenError, flatten};
use crate::image::{DiskImage, ImageError};
use crate::manifest::{Manifest, VERSION};
use crate::name::BaseName;
use crate::store::{DISK, Draft, MANIFEST, Store};
use crate::validate::{Report, validate_image};

/// How a base is added.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// What to record as the base's source, such as a URL; by default the path of the file.
    pub source: Option<String>,
    /// Set it to end the addition with [`FlattenError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
}

/// Why no base was added. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// There is a base of that name.
    #[error(
        "a base with the name {name} exists: choose another name, or remove it with `mimeo base rm {name}`"
    )]
    Exists {
        /// The name.
        name: BaseName,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The validation found errors.
    #[error("the image cannot be a base: {}", describe_errors(checks))]
    Invalid {
        /// All checks.
        checks: Vec<Check>,
    },
    /// The image was written to while it was copied.
    #[error("the image changed while it was copied: add it again when nothing writes to it")]
    Changed,
    /// The image was not copied.
    #[error("cannot copy the image")]
    Flatten(#[from] FlattenError),
    /// An operation on a file of the store failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The errors among the checks.
fn describe_errors(checks: &[Check]) -> String {
    let errors = checks.iter().filter(|check| check.outcome == Outcome::Error);
    let texts = errors.map(|check| match &check.hint {
        Some(hint) => format!("{}: {} ({hint})", check.name, check.detail),
        None => format!("{}: {}", check.name, check.detail),
    });
    texts.collect::<Vec<_>>().join("; ")
}

impl Store {
    /// Adds a base: validates the raw or qcow2 image in `file`, and copies its content to a disk of the store. Only what
    /// is allocated in the file is read. Blocks until the disk is written and synced.
    ///
    /// # Errors
    /// If the name is taken, the file is no image that can be read, the validation finds errors, or the disk cannot be
    /// written. Nothing is left then.
    pub fn add(&self, name: &BaseName, file: &Path, options: &AddOptions) -> Result<Manifest, AddError> {
        self.refuse_existing(name)?;
        let image = Rc::new(RefCell::new(DiskImage::open(file)?));
        let report = validate_image(&image);
        if !is_usable(&report.checks) {
            return Err(AddError::Invalid { checks: report.checks });
        }
        let draft = self.create_draft(&self.lock()?)?;
        let digest = write_disk(&draft, &mut image.borrow_mut(), &options.cancelled)?;
        if !image.borrow().is_unchanged()? {
            return Err(AddError::Changed);
        }
        let source = options.source.clone().unwrap_or_else(|| file.display().to_string());
        let manifest = manifest(name, source, digest, report);
        write_manifest(&draft, &manifest)?;
        self.commit(draft, name)?;
        Ok(manifest)
    }

    /// Gives the base its name, by one rename.
    fn commit(&self, draft: Draft, name: &BaseName) -> Result<(), AddError> {
        let lock = self.lock()?;
        self.refuse_existing(name)?;
        let dir = self.dir(name);
        fs::rename(draft.path(), &dir).map_err(FileError::at("rename a directory to", &dir))?;
        draft.disable_cleanup();
        drop(lock);
        Ok(self.sync()?)
    }

    fn refuse_existing(&self, name: &BaseName) -> Result<(), AddError> {
        let dir = self.dir(name);
        match dir.try_exists().map_err(FileError::at("read", &dir))? {
            true => Err(AddError::Exists { name: name.clone() }),
            false => Ok(()),
        }
    }
}

/// Writes the disk; returns its digest.
fn write_disk(draft: &Draft, image: &mut DiskImage, cancelled: &AtomicBool) -> Result<String, AddError> {
    let path = draft.path().join(DISK);
    let disk = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let disk = disk.map_err(FileError::at("create", &path))?;
    // The open file can be written nevertheless.
    disk.set_permissions(Permissions::from_mode(0o444)).map_err(FileError::at("set the mode of", &path))?;
    Ok(flatten(image, &disk, &path, cancelled)?)
}

fn manifest(name: &BaseName, source: String, digest: String, report: Report) -> Manifest {
    Manifest {
        version: VERSION,
        name: name.clone(),
        created: Timestamp::now(),
        source,
        format: report.format,
        virtual_bytes: report.virtual_bytes,
        digest,
        root: report.root,
        system: report.system,
        checks: report.checks,
    }
}

fn write_manifest(draft: &Draft, manifest: &Manifest) -> Result<(), FileError> {
    let path = draft.path().join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(manifest).map_err(FileError::at("write", &path))?;
    let mut file = fs::File::create_new(&path).map_err(FileError::at("create", &path))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(FileError::at("write", &path))?;
    fs::File::open(draft.path()).and_then(|dir| dir.sync_all()).map_err(FileError::at("sync", draft.path()))
}

#[cfg(test)]
mod tests;
