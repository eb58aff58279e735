//! OCI images: from a reference to a read-only ext4 filesystem, without root privileges and without mounting.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{path::Path, sync::Arc};
//! use mimeo_image::{PullOptions, Quiet, Store};
//!
//! let store = Store::open(Path::new("/var/lib/mimeo/images"))?;
//! let image = match store.find("nginx")? {
//!     Some(image) => image,
//!     None => store.pull(&"nginx".parse()?, &PullOptions::default(), Arc::new(Quiet)).await?,
//! };
//! println!("{}", image.rootfs.display());
//! # Ok(())
//! # }
//! ```
//!
//! [`Store`] is the entry point. Each of its operations has its own file: `pull`, `import`, `find`, `list`, `inspect`,
//! `remove`, `prune`. [`blank::create`] creates the writable disk that a machine overlays on the image;
//! [`overlay::create`] creates one on top of another disk (copy-on-write).

pub mod blank;
pub mod overlay;

mod blobs;
mod build;
mod commit;
mod config;
mod credentials;
mod digest;
pub mod disk_copy;
mod download;
mod ext4;
mod find;
mod garbage;
mod image;
mod import;
mod inspect;
mod layer;
mod limits;
mod list;
mod local;
mod manifest;
mod name;
mod platform;
mod progress;
mod prune;
mod pull;
mod records;
mod registry;
mod remove;
mod source;
mod store;
mod tree;

pub use build::BuildError;
pub use commit::FileError;
pub use config::{Healthcheck, ImageConfig};
pub use credentials::{Credentials, CredentialsError};
pub use digest::{Digest, DigestError};
pub use download::DownloadError;
pub use find::FindError;
pub use image::{Image, LayerInfo};
pub use import::{Change, ChangeError, ImportError, ImportOptions};
pub use inspect::Inspection;
pub use layer::{LayerError, LayerProblem};
pub use limits::Limits;
pub use list::Listing;
pub use local::LocalError;
pub use manifest::DocumentError;
pub use name::{ImageName, NameError};
pub use platform::{Platform, PlatformError};
pub use progress::{Event, Progress, Quiet, Stage};
pub use prune::{PruneError, Pruned};
pub use pull::{PullError, PullOptions};
pub use registry::RegistryError;
pub use remove::{RemoveError, Removed};
pub use source::{Source, SourceError};
pub use store::{OpenError, Store};
