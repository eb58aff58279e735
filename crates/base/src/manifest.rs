//! What is known of a base: its base.json.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::image::Format;
use crate::name::BaseName;
use crate::system::System;

/// The newest known version of base.json.
pub(crate) const VERSION: u32 = 1;

/// A base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this document, 1.
    pub version: u32,
    /// The base's name.
    pub name: BaseName,
    /// When it was added.
    pub created: Timestamp,
    /// The file or URL that it was made of, as given.
    pub source: String,
    /// The format of the source's file. The base's own disk is raw.
    pub format: Format,
    /// The disk's size in bytes.
    pub virtual_bytes: u64,
    /// `blake3:` and the hexadecimal digest of the disk's content, which does not depend on the source's format or
    /// holes: over the disk's size, and the number and content of each block of 64 KiB that is not all zeros (numbers
    /// are little-endian, of 64 bits).
    pub digest: String,
    /// The root filesystem.
    pub root: Option<RootFilesystem>,
    /// The system in it; `None` if it cannot be looked into.
    pub system: Option<System>,
    /// The checks of its validation.
    pub checks: Vec<Check>,
}

/// The root filesystem of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFilesystem {
    /// The number of its partition as Linux counts them, from 1; `None` if it fills the disk.
    pub partition: Option<u32>,
    /// Its kind, such as `ext4`.
    pub filesystem: String,
    /// Its UUID, if it is known.
    pub uuid: Option<String>,
}

impl RootFilesystem {
    /// `ext4 on partition 1`.
    pub(crate) fn describe(&self) -> String {
        match self.partition {
            Some(number) => format!("{} on partition {number}", self.filesystem),
            None => format!("{} on the whole disk", self.filesystem),
        }
    }
}
