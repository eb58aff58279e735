//! Why a snapshot cannot be kept or loaded.

use std::io;
use std::path::PathBuf;

use crate::io_error::IoError;
use crate::machine::MachineName;

/// Why a snapshot cannot be loaded here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's bytes are not those that were saved.
    #[error("{} is damaged: it is not what was saved", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer mimeo made it.
    #[error("{} has format {format}, this mimeo knows {known}: use the mimeo that made it", path.display())]
    NewerFormat {
        /// Its manifest.
        path: PathBuf,
        /// The manifest's format.
        format: u32,
        /// Ours.
        known: u32,
    },
    /// This host has not what the snapshot needs.
    #[error("the snapshot needs {requirement} {needed}, this host has {actual}")]
    Incompatible {
        /// What does not fit.
        requirement: &'static str,
        /// What the snapshot was made with.
        needed: String,
        /// What this host has.
        actual: String,
    },
    /// The snapshot that it is a difference to is not here.
    #[error("the snapshot builds on {parent}, which is not here")]
    MissingParent {
        /// The parent's short id.
        parent: String,
    },
    /// Its memory cannot be laid out.
    #[error("cannot lay out the snapshot's memory")]
    Memory(#[from] mimeo_pager::PagerError),
    /// Nobody made sure of it before the host went down.
    #[error(
        "the snapshot was made for a fork's children before the host went down, and may not be whole: fork anew"
    )]
    Unverified,
    /// It is a guest without work: only `run` starts copies of it.
    #[error("this is a runtime snapshot: `mimeo run` starts copies of it")]
    Runtime,
}

/// Why a snapshot cannot be kept, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tag belongs to another.
    #[error(
        "the tag \"{tag}\" is in use by snapshot {owner}: remove that with `mimeo snapshot rm {tag}`, or choose another"
    )]
    TagTaken {
        /// The tag.
        tag: MachineName,
        /// The other's short id.
        owner: String,
    },
    /// A copy is kept as a difference to what it is a copy of.
    #[error("the machine is a copy of snapshot {parent}, which was removed: only with that could it be kept")]
    MissingParent {
        /// The removed one's short id.
        parent: String,
    },
    /// Something was made of it.
    #[error("snapshot {snapshot} cannot be removed before what is built on it: {}", users.join(", "))]
    InUse {
        /// What was to be removed.
        snapshot: String,
        /// What is built on it.
        users: Vec<String>,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The machines cannot be listed: one of them may need it.
    #[error(transparent)]
    Lookup(#[from] crate::machine::LookupError),
    /// Memory or its digest could not be written or read.
    #[error(transparent)]
    Pager(#[from] mimeo_pager::PagerError),
}
