//! The history of an image: the steps that built it.

use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};

use crate::commit::FileError;
use crate::config::ConfigDocument;
use crate::find::FindError;
use crate::image::{Image, LayerInfo};
use crate::layer::{self, Budget};
use crate::limits::Limits;
use crate::store::Store;

/// A step as an image's configuration describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When it was run, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It changed only the configuration and made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A step, and the size of its layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The step.
    #[serde(flatten)]
    pub entry: HistoryEntry,
    /// Bytes of its layer, uncompressed; 0 without a layer.
    pub size: u64,
}

impl Store {
    /// Returns an image with its steps, newest first. None if there is no such image. Reads the layers, for their sizes.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn history(&self, text: &str) -> Result<Option<(Image, Vec<Step>)>, FindError> {
        let Some(image) = self.find(text)? else { return Ok(None) };
        let mut layers = image.layers.iter();
        let mut steps = Vec::new();
        for entry in read_entries(self, &image)? {
            let size = if entry.empty_layer { None } else { layers.next() };
            steps.push(Step { entry, size: size.map_or(0, |layer| self.unpacked_size(layer)) });
        }
        steps.reverse();
        Ok(Some((image, steps)))
    }

    /// Returns the uncompressed bytes of a layer, which it reads for that; 0 for one that is not in the store.
    pub fn unpacked_size(&self, layer: &LayerInfo) -> u64 {
        let budget = Budget::new(Limits::default().without_ratio());
        let file = File::open(self.blob(layer.digest)).ok();
        let unpacked = file.and_then(|file| layer::unpack(file, &mut io::sink(), &budget).ok());
        unpacked.map_or(0, |(_, bytes)| bytes)
    }
}

fn read_entries(store: &Store, image: &Image) -> Result<Vec<HistoryEntry>, FileError> {
    let path = store.blob(image.id);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .map(|document: ConfigDocument| document.history)
            .unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::at("read", &path)(error)),
    }
}
