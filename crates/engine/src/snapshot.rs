//! Snapshots: saved machines that clones are started from.
//!
//! A snapshot is one directory, committed by one rename and never changed after that. `manifest` describes
//! it, `store` finds and lists snapshots, `verify` and `compatibility` decide whether one may be loaded,
//! `memory` flattens a snapshot's memory into one file that machines map.

mod compatibility;
mod draft;
mod error;
mod manifest;
mod memory;
mod remove;
mod store;
mod verify;
mod writer;

pub use crate::id::SnapshotId;
pub(crate) use compatibility::{HostProfile, check_compatibility, check_version, cpu_model};
pub(crate) use draft::Draft;
pub use error::{LoadError, StoreError};
pub(crate) use manifest::STATE;
pub use manifest::{FileEntry, Kind, Manifest};
pub(crate) use memory::flatten_memory;
pub use remove::{Removed, remove_damaged};
pub(crate) use remove::{delete, discard, discard_damaged};
pub use store::{FindSnapshotError, Snapshot, Snapshots};
pub(crate) use verify::{make_durable, record_verified, verify};
pub use writer::WriteError;
pub(crate) use writer::{LastMemory, SnapshotWriter, VmmSave, WrittenSnapshot, capture};
