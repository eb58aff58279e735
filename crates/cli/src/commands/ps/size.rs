//! The disk space that a machine uses.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use mimeo_engine::Found;
use serde::Serialize;

use crate::humanize;
use crate::view::ImageNames;

/// Bytes, as in podman's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    /// All that the machine has written, with its image.
    #[serde(rename = "rootFsSize")]
    whole: u64,
    /// What the machine has written.
    #[serde(rename = "rwSize")]
    written: u64,
}

impl Size {
    /// Measures the layers of the writable disk. A layer that was shared with a snapshot counts too.
    pub(super) fn measure(found: &Found, names: &ImageNames) -> Self {
        let files = found.dir.read_dir().into_iter().flatten().flatten();
        let disks = files.filter(|file| file.file_name().to_string_lossy().starts_with("disk-"));
        let used = |metadata: Metadata| metadata.blocks() * 512;
        let written = disks.filter_map(|file| file.metadata().ok()).map(used).sum();
        Self { whole: written + names.size_of(&found.record), written }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (virtual {})", humanize::size(self.written, 3), humanize::size(self.whole, 3))
    }
}
