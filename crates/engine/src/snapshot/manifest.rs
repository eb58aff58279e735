//! A snapshot's manifest. `COMPATIBILITY.md` says which parts of the format are stable.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LoadError;
use crate::durable;
use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::machine::{BootConfiguration, MachineName, Record, Requirements};

/// The manifest's file name in a snapshot's directory.
pub(super) const FILE: &str = "manifest.json";
/// The digest of the manifest, which contains the digests of all other files.
pub(super) const DIGEST_FILE: &str = "manifest.blake3";
/// Version of the manifest's format, for snapshots with memory.
const FORMAT: u32 = 1;
/// The version for snapshots of a disk without memory. A mimeo that does not know them refuses it.
const DISK_FORMAT: u32 = 2;
/// The version for snapshots, with or without memory, of a machine that has named volumes.
const VOLUMES_FORMAT: u32 = 3;

/// The guest's memory as a sparse file: all of it, or, with a parent, the pages that differ from the
/// parent's.
pub(crate) const MEMORY: &str = "memory";
/// With a parent: which pages of `memory` are valid.
pub(crate) const PAGES: &str = "memory.pages";
/// The state of the devices, in the driver's own format.
pub(crate) const STATE: &str = "state";

/// The description of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// The snapshot's id.
    pub id: SnapshotId,
    /// A name that the user gave it.
    pub tag: Option<MachineName>,
    /// Its purpose.
    pub kind: Kind,
    /// When it was taken.
    pub created: Timestamp,
    /// The parent: this snapshot's memory is stored as a difference to the parent's.
    pub parent: Option<SnapshotId>,
    /// The record of the source machine at that time; `None` for a boot snapshot.
    pub machine: Option<Record>,
    /// What a host needs to run clones of it.
    pub requires: Requirements,
    /// Number of layers of the writable disk.
    pub disk_layers: u32,
    /// Bytes of guest memory that this snapshot stores.
    pub memory_bytes: u64,
    /// The host's boot id when it was taken. Files without digests are trusted only during the same boot.
    #[serde(default)]
    pub boot_id: String,
    /// How long the source's workload was paused, in microseconds.
    pub pause_micros: u64,
    /// Of a boot snapshot: the configuration of its guest. Earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootConfiguration>,
    /// Its files, except the manifest.
    pub files: Vec<FileEntry>,
}

/// The purpose of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Requested by a user.
    Snapshot,
    /// The source of a fork; removed with the last machine of that fork.
    Fork,
    /// A boot snapshot: a booted guest that waits for its first workload.
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
    /// BLAKE3 of its content without holes; `None` for the snapshot of a fork, whose clones start at once
    /// and do not survive a reboot.
    pub blake3: Option<String>,
}

impl Manifest {
    /// The format that this program writes for a snapshot of this machine, with memory.
    pub(crate) fn format_of(machine: Option<&Record>) -> u32 {
        if machine.is_some_and(|machine| !machine.volumes.is_empty()) { VOLUMES_FORMAT } else { FORMAT }
    }

    /// The format that this program writes for a snapshot of this machine's disks, without memory.
    pub(crate) fn disk_format_of(machine: &Record) -> u32 {
        if machine.volumes.is_empty() { DISK_FORMAT } else { VOLUMES_FORMAT }
    }

    /// Returns whether the snapshot has a disk and no memory: its source did not run.
    #[must_use]
    pub fn is_disk_only(&self) -> bool {
        !self.files.iter().any(|file| file.name == STATE)
    }

    /// Reads the manifest of a directory and verifies its digest.
    pub(super) fn load(dir: &Path) -> Result<Self, LoadError> {
        let path = dir.join(FILE);
        let bytes = fs::read(&path).at("read", &path)?;
        let damaged = || LoadError::Damaged { path: path.clone() };
        let digest = fs::read_to_string(dir.join(DIGEST_FILE)).map_err(|_| damaged())?;
        if digest.trim_end() != blake3::hash(&bytes).to_hex().as_str() {
            return Err(damaged());
        }
        // Parsed before the rest, which a newer format may have changed.
        #[derive(Deserialize)]
        struct Envelope {
            format: u32,
        }
        let Envelope { format } = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        if format > VOLUMES_FORMAT {
            return Err(LoadError::NewerFormat { path, format, known: VOLUMES_FORMAT });
        }
        serde_json::from_slice(&bytes).map_err(|_| damaged())
    }

    /// Writes the manifest into a draft's directory.
    pub(super) fn store(&self, dir: &Path) -> std::io::Result<()> {
        let path = dir.join(FILE);
        durable::write_json(&path, self)?;
        let digest = blake3::hash(&fs::read(&path)?).to_hex();
        durable::write(&dir.join(DIGEST_FILE), format!("{digest}\n").as_bytes())
    }

    /// The name to display: the tag, or the short id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.tag.as_ref().map_or(self.id.short(), MachineName::as_str)
    }
}
