//! Why a snapshot cannot be saved, loaded or removed.

use std::path::PathBuf;

use crate::io_error::IoError;
use crate::machine::MachineName;

/// Why a snapshot cannot be loaded on this host.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory could not be used.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The content of a file differs from what was saved.
    #[error("{} is damaged: its content differs from what was saved", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of mimeo made the snapshot.
    #[error("{} has format {format}, this mimeo knows {known}: use the mimeo that made it", path.display())]
    NewerFormat {
        /// The manifest.
        path: PathBuf,
        /// The manifest's format.
        format: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// This host does not meet a requirement of the snapshot.
    #[error("the snapshot needs {requirement} {needed}, this host has {actual}")]
    Incompatible {
        /// The requirement.
        requirement: &'static str,
        /// The value at the time of the snapshot.
        needed: String,
        /// The value on this host.
        actual: String,
    },
    /// The parent snapshot is missing.
    #[error("the parent snapshot {parent} is missing")]
    MissingParent {
        /// The parent's short id.
        parent: String,
    },
    /// The snapshot's memory cannot be flattened.
    #[error("cannot flatten the snapshot's memory")]
    Memory(#[from] mimeo_pager::PagerError),
    /// The snapshot has no digests, and the host has rebooted since it was taken.
    #[error("the snapshot was made for a fork before the host rebooted, and may be incomplete: fork again")]
    Unverified,
    /// A snapshot of a machine that did not run.
    #[error(
        "the snapshot has a disk and no memory, because its machine did not run: only `mimeo snapshot run` starts machines from it"
    )]
    DiskOnly,
    /// A boot snapshot, which has no workload: only `run` starts clones of it.
    #[error("this is a boot snapshot: only `mimeo run` starts machines from it")]
    BootSnapshot,
}

/// Why a snapshot cannot be saved, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another snapshot has the tag.
    #[error(
        "the tag \"{tag}\" is in use by snapshot {owner}: remove it with `mimeo snapshot rm {tag}`, or choose another"
    )]
    TagTaken {
        /// The tag.
        tag: MachineName,
        /// The other snapshot's short id.
        owner: String,
    },
    /// A clone is saved as a difference to its parent, which is missing.
    #[error(
        "the machine is a clone of snapshot {parent}, which was removed: a clone can be saved only while its parent exists"
    )]
    MissingParent {
        /// The removed snapshot's short id.
        parent: String,
    },
    /// Other snapshots, machines or servers depend on the snapshot.
    #[error("cannot remove snapshot {snapshot}, which is in use by {}", users.join(", "))]
    InUse {
        /// The snapshot that was to be removed.
        snapshot: String,
        /// What depends on it.
        users: Vec<String>,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The machines cannot be listed, so one of them may depend on the snapshot.
    #[error(transparent)]
    Lookup(#[from] crate::machine::LookupError),
    /// Reading, writing or hashing memory failed.
    #[error(transparent)]
    Pager(#[from] mimeo_pager::PagerError),
    /// A disk could not be copied.
    #[error("cannot copy a disk")]
    Disk(#[from] mimeo_image::overlay::OverlayError),
}
