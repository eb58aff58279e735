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
//! [`Store`] is the entry point. Each of its operations has its own file: `pull`, `load`, `import`, `add_layer`,
//! `find`, `list`, `inspect`, `history`, `tag`, `export`, `push`, `remove`, `prune`. [`blank::create`] creates the writable disk that a machine overlays on the image;
//! [`overlay::create`] creates one on top of another disk (copy-on-write).

pub mod blank;
pub mod overlay;

mod add_layer;
mod auth_file;
mod blobs;
mod build;
mod commit;
mod config;
mod credentials;
mod destination;
mod diff;
mod digest;
pub mod disk_copy;
mod download;
mod export;
mod ext4;
mod find;
mod garbage;
mod history;
mod image;
mod import;
mod inspect;
mod layer;
mod limits;
mod list;
mod list_tags;
mod load;
mod local;
mod login;
mod manifest;
mod name;
mod platform;
mod progress;
mod prune;
mod pull;
mod push;
mod records;
mod registry;
mod remove;
mod search;
mod source;
mod stall;
mod store;
mod tag;
mod tree;
mod upload;
mod web;

pub use add_layer::{AddLayerError, LayerOptions};
pub use auth_file::{AuthFile, AuthFileError};
pub use build::BuildError;
pub use commit::FileError;
pub use config::{Healthcheck, ImageConfig};
pub use credentials::{Credentials, CredentialsError};
pub use destination::Destination;
pub use diff::{ChangeKind, Changes, DiffError};
pub use digest::{Digest, DigestError};
pub use download::DownloadError;
pub use export::{ExportError, ExportFormat, Exported};
pub use find::FindError;
pub use history::{HistoryEntry, Step};
pub use image::{Image, LayerInfo};
pub use import::{Change, ChangeError, ImportError, ImportOptions};
pub use inspect::Inspection;
pub use layer::{LayerError, LayerProblem, decompress};
pub use limits::Limits;
pub use list::Listing;
pub use list_tags::{ListTagsError, Tags, list_tags};
pub use load::LoadedImage;
pub use local::LocalError;
pub use login::{LoginError, verify_login};
pub use manifest::DocumentError;
pub use name::{ImageName, NameError};
pub use platform::{Platform, PlatformError};
pub use progress::{Event, Progress, Quiet, Stage};
pub use prune::{PruneError, Pruned};
pub use pull::{PullError, PullOptions};
pub use push::PushError;
pub use registry::{RegistryError, RegistryOptions, install_crypto_provider};
pub use remove::{RemoveError, Removed};
pub use search::{SearchError, SearchResult, search};
pub use source::{Source, SourceError};
pub use store::{OpenError, Store};
pub use tag::TagError;
pub use web::WebError;
