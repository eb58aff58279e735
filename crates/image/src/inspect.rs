//! All data about one image.

use serde::{Deserialize, Serialize};

use crate::commit::FileError;
use crate::find::FindError;
use crate::image::Image;
use crate::store::Store;

/// An image with its original documents.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inspection {
    /// The image as stored; its fields are at the top level of the JSON object.
    #[serde(flatten)]
    pub image: Image,
    /// The manifest, as JSON; null if its blob is missing.
    pub manifest: serde_json::Value,
    /// The configuration document with its history, as JSON; null if its blob is missing.
    pub document: serde_json::Value,
}

impl Store {
    /// Returns an image with its documents. None if there is no such image.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn inspect(&self, text: &str) -> Result<Option<Inspection>, FindError> {
        let Some(image) = self.find(text)? else { return Ok(None) };
        let manifest = self.document(image.digest)?;
        let document = self.document(image.id)?;
        Ok(Some(Inspection { image, manifest, document }))
    }

    fn document(&self, digest: crate::digest::Digest) -> Result<serde_json::Value, FileError> {
        let path = self.blob(digest);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(serde_json::Value::Null),
            Err(error) => Err(FileError::at("read", &path)(error)),
        }
    }
}
