//! Memory of guests that are copied.
//!
//! A guest's memory is a mapping in the process that runs it. [`changed`] says which of its pages are that process's
//! own, [`Capture`] copies them into a file while the guest stands still, [`lay`] makes one flat file of such a
//! copy and the memory it differs from, and [`working_set`] says which pages a guest needs first. Where a VMM does not map
//! that file, [`serve`] gives its guests their pages one by one.
//!
//! ```no_run
//! # fn example(pid: u32, address: u64) -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_pager::{Capture, Held, Region};
//!
//! let memory = Region { address, offset: 0, length: 512 << 20 };
//! let mut capture = Capture::prepare(pid, vec![memory], Held::Private, Path::new("diff"))?;
//! // The guest is stopped here,
//! let pages = capture.take()?;
//! // and goes on here.
//! std::fs::write("diff.pages", pages.to_bytes())?;
//! let digest = capture.finish(true, true)?;
//! # drop(digest);
//! # Ok(())
//! # }
//! ```

mod bits;
mod capture;
mod data;
mod digest;
mod error;
pub mod fake;
mod fence;
mod lay;
mod mapped;
mod memory;
mod pages;
mod region;
pub mod serve;
mod sparse;
mod userfault;
pub mod working_set;

pub use capture::Capture;
pub use data::{data, has_exact_holes, punch_zeros};
pub use digest::digest;
pub use error::{FileError, PagerError};
pub use lay::lay;
pub use memory::{Held, changed};
pub use pages::{Pages, PagesError};
pub use region::Region;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
