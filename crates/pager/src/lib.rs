//! Guest memory, for snapshots and clones.
//!
//! A guest's memory is a mapping in the VMM process. [`changed_pages`] lists the pages that this process has
//! changed, [`Capture`] copies them into a file while the guest is paused, [`flatten()`] merges such a diff with
//! its parent into one flat file, and [`working_set`] records which pages a guest needs first. For VMMs that
//! do not map that file, [`serve`] is a page server that answers their page faults.
//!
//! ```no_run
//! # fn example(pid: u32, address: u64) -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_pager::{Capture, MappingKind, Region};
//!
//! let memory = Region { address, offset: 0, length: 512 << 20 };
//! let mut capture = Capture::prepare(pid, vec![memory], MappingKind::Private, Path::new("diff"))?;
//! // The guest is paused here,
//! let pages = capture.copy_changed()?;
//! // and resumes here.
//! std::fs::write("diff.pages", pages.to_bytes())?;
//! let digest = capture.finish(true, true)?;
//! # drop(digest);
//! # Ok(())
//! # }
//! ```

mod bitmap;
mod capture;
mod data;
mod digest;
mod error;
pub mod fake;
mod fence;
mod flatten;
mod maps;
mod memory;
pub mod page_server;
mod pages;
mod region;
mod sparse;
mod userfault;
pub mod working_set;

pub use capture::Capture;
pub use data::{data_pages, has_exact_holes, punch_zeros};
pub use digest::digest;
pub use error::{FileError, PagerError};
pub use flatten::flatten;
pub use memory::{MappingKind, changed_pages};
pub use pages::{Pages, PagesError};
pub use region::Region;

/// Page size in bytes.
pub const PAGE: u64 = 4096;
