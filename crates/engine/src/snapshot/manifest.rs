//! What a snapshot says of itself. `COMPATIBILITY.md` says what of it stays.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LoadError;
use crate::durable;
use crate::id::SnapshotId;
use crate::machine::{MachineName, Record, Requirements};

/// The file's name in a snapshot's directory.
pub(super) const FILE: &str = "manifest.json";
/// The digest of that file: it names all others' digests.
pub(super) const DIGEST_FILE: &str = "manifest.blake3";
/// The number of this shape.
const FORMAT: u32 = 1;

/// The guest's memory: all of it, sparse; with a parent, what differs from that.
pub(crate) const MEMORY: &str = "memory";
/// With a parent: which pages of `memory` count.
pub(crate) const PAGES: &str = "memory.pages";
/// The devices' state, in the driver's own form.
pub(crate) const STATE: &str = "state";

/// A layer of the writable disk; 0 is the lowest.
pub(crate) fn disk(layer: u32) -> String {
    format!("disk-{layer}")
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of this shape.
    pub format: u32,
    /// The snapshot's id.
    pub id: SnapshotId,
    /// A name that a person gave it.
    pub tag: Option<MachineName>,
    /// What it is for.
    pub kind: Kind,
    /// When it was taken.
    pub created: Timestamp,
    /// The snapshot whose memory this one's is a difference to.
    pub parent: Option<SnapshotId>,
    /// The machine that it was taken of, as it was then; none of a runtime snapshot.
    pub machine: Option<Record>,
    /// What a host must have to run copies of it.
    pub requires: Requirements,
    /// Layers of the writable disk.
    pub disk_layers: u32,
    /// Bytes of the guest's memory that this snapshot holds.
    pub memory_bytes: u64,
    /// The boot of the host that it was taken in. What has no digests is believed in no other.
    #[serde(default)]
    pub boot_id: String,
    /// How long the source's workload stood still, in microseconds.
    pub pause_micros: u64,
    /// Its files, this one not among them.
    pub files: Vec<FileEntry>,
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person asked for it.
    Snapshot,
    /// Where a machine was forked; goes with the last machine that came of it.
    Fork,
    /// A guest that has booted and waits for its first work.
    Runtime,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "snapshot",
            Self::Fork => "fork",
            Self::Runtime => "runtime",
        })
    }
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the directory.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of its content, holes left out; none where copies are started at
    /// once and nothing is kept.
    pub blake3: Option<String>,
}

impl Manifest {
    /// The format that this program writes.
    pub(crate) const FORMAT: u32 = FORMAT;

    /// Reads a directory's manifest, and checks that it is whole.
    pub(super) fn load(dir: &Path) -> Result<Self, LoadError> {
        let path = dir.join(FILE);
        let bytes = fs::read(&path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let damaged = || LoadError::Damaged { path: path.clone() };
        let digest = fs::read_to_string(dir.join(DIGEST_FILE)).map_err(|_| damaged())?;
        if digest.trim_end() != blake3::hash(&bytes).to_hex().as_str() {
            return Err(damaged());
        }
        // Read before the rest, which a newer format may have changed.
        #[derive(Deserialize)]
        struct Envelope {
            format: u32,
        }
        let Envelope { format } = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        if format > FORMAT {
            return Err(LoadError::NewerFormat { path, format, known: FORMAT });
        }
        serde_json::from_slice(&bytes).map_err(|_| damaged())
    }

    /// Writes the manifest into a directory that nobody sees yet.
    pub(super) fn store(&self, dir: &Path) -> std::io::Result<()> {
        let path = dir.join(FILE);
        durable::write_json(&path, self)?;
        let digest = blake3::hash(&fs::read(&path)?).to_hex();
        durable::write(&dir.join(DIGEST_FILE), format!("{digest}\n").as_bytes())
    }

    /// What people call it: its tag, or its short id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.tag.as_ref().map_or(self.id.short(), MachineName::as_str)
    }
}
