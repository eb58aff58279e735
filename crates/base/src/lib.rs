//! Bases: disk images of whole systems, which sandboxes start from. A base is added from a raw or qcow2 file, validated,
//! and never changed afterwards. This needs no root privileges, mounts nothing and runs no program.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_base::{AddOptions, Store};
//!
//! let store = Store::at(Path::new("/var/lib/mimeo/bases"))?;
//! let base = store.add(&"debian".parse()?, Path::new("debian-12.qcow2"), &AddOptions::default())?;
//! println!("{} {:?}", store.disk(&base.name).display(), base.root);
//! # Ok(())
//! # }
//! ```

mod add;
mod check;
mod download;
mod file_error;
mod filesystem;
mod flatten;
mod image;
mod manifest;
mod name;
mod partition;
mod remove;
mod root;
mod space;
mod store;
mod system;
#[cfg(test)]
mod test_images;
mod tree;
mod validate;
mod window;

pub use add::{AddError, AddOptions};
pub use check::{Check, Outcome, is_usable};
pub use download::{Download, DownloadError};
pub use file_error::FileError;
pub use flatten::FlattenError;
pub use image::{Format, ImageError, Qcow2Error};
pub use manifest::{Manifest, RootFilesystem};
pub use name::{BaseName, ParseBaseNameError};
pub use remove::RemoveError;
pub use space::SpaceError;
pub use store::{Store, StoreError, StoreLock};
pub use system::{CloudInit, Init, Kernels, MachineId, Network, OsRelease, System};
pub use validate::{Report, validate};
