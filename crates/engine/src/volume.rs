//! Directories of the host in the guest: FUSE, its messages carried over the
//! guest link, served here.

use std::path::PathBuf;

use mimeo_agent_protocol::link::{Link, LinkError};
use mimeo_agent_protocol::message::Failure;

use crate::machine::VolumeSpec;

/// One volume that is served. Dropping it ends its service.
#[derive(Debug)]
pub struct VolumeServer {}

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The guest refused it.
    #[error("cannot mount {} in the guest", path.display())]
    Guest {
        /// The host's path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Failure,
    },
    /// The link failed.
    #[error("the link to the guest failed")]
    Link(#[from] LinkError),
    /// Not yet.
    #[error("cannot serve {}", path.display())]
    Serve {
        /// The host's path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves all of a machine's volumes; each is mounted when this returns.
pub(crate) async fn serve(_link: &Link, volumes: &[VolumeSpec]) -> Result<Vec<VolumeServer>, VolumeError> {
    match volumes.first() {
        None => Ok(Vec::new()),
        Some(volume) => Err(VolumeError::Serve {
            path: volume.host.clone(),
            source: std::io::ErrorKind::Unsupported.into(),
        }),
    }
}
