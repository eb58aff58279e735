//! A volume's record on disk, volume.json. It is written once, when the volume is created.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{VolumeError, VolumeName};
use crate::durable;
use crate::io_error::IoContext;

/// The name of the file in a volume's directory.
const FILE: &str = "volume.json";
/// The version of the record's format.
const FORMAT: u32 = 1;

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The version of the record's format.
    format: u32,
    /// Its name.
    pub name: VolumeName,
    /// When it was created.
    pub created: Timestamp,
    /// Labels to find it by.
    pub labels: BTreeMap<String, String>,
    /// The options that it was created with, as given.
    pub options: BTreeMap<String, String>,
    /// Size of its filesystem in bytes. The file is sparse: it uses only what is written.
    pub bytes: u64,
}

impl Volume {
    pub(super) fn new(name: VolumeName, bytes: u64) -> Self {
        let (labels, options) = Default::default();
        Self { format: FORMAT, name, created: Timestamp::now(), labels, options, bytes }
    }

    /// Reads the record of the volume in `dir`; `None` if there is none.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, VolumeError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.at("read", &path)?,
        };
        // Parsed before the rest, which a newer format may have changed.
        #[derive(Deserialize)]
        struct Envelope {
            format: u32,
        }
        let damaged = |source| VolumeError::Damaged { path: path.clone(), source };
        let Envelope { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(VolumeError::NewerFormat { path, format, known: FORMAT });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes the record into the directory of a new volume.
    pub(super) fn store(&self, dir: &Path) -> Result<(), VolumeError> {
        let path = dir.join(FILE);
        Ok(durable::write_json(&path, self).at("write", &path)?)
    }
}
