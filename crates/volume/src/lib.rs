//! Volumes: directories of the host in the guest.
//!
//! The guest's kernel mounts a FUSE filesystem, the agent forwards its messages
//! unchanged over a stream of the guest link, and this crate replies to them. No
//! VMM is involved and no privilege is needed. The guest is not trusted, its
//! kernel included. See docs/decisions/0004-volumes.md.
//!
//! Nothing outside a shared directory can be reached: each request refers to
//! one name in a directory that was looked up before, starting with the shared
//! one, and names with `/` in them, `.` and `..` are refused. Symbolic links
//! are never followed here; the guest follows them, within its own filesystems.

mod handles;
mod inodes;
mod limits;
mod locks;
mod operation;
mod pump;
mod releases;
mod reply;
mod server;
mod share;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mimeo_agent_protocol::link::{Link, LinkError};
use mimeo_agent_protocol::message::{Failure, Reply, Request, Volume};
use rustix::process::{getegid, geteuid};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use limits::Limits;
use serde::{Deserialize, Serialize};
use server::Server;
use share::Share;

/// A directory or file of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Absolute path on the host; it must exist.
    pub host: PathBuf,
    /// Absolute path in the container.
    pub guest: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A volume that is being served. Dropping this stops the service.
#[derive(Debug)]
pub struct VolumeServer {
    pump: AbortHandle,
}

impl Drop for VolumeServer {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Why a volume could not be served.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The guest could not mount it.
    #[error("cannot mount {} in the guest", path.display())]
    Guest {
        /// The path on the host.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Failure,
    },
    /// The guest's reply is neither success nor failure, or there was none.
    #[error("unexpected reply from the guest to the mount of {}", path.display())]
    UnexpectedReply {
        /// The path on the host.
        path: PathBuf,
    },
    /// The link failed.
    #[error("the link to the guest failed")]
    Link(#[from] LinkError),
    /// The host could not open or serve it.
    #[error("cannot serve {}", path.display())]
    Serve {
        /// The path on the host.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Starts to serve one of a machine's `total` volumes. It is mounted when this returns.
///
/// # Errors
/// When it cannot be opened on the host or mounted in the guest.
pub async fn serve(link: &Link, volume: &VolumeSpec, total: usize) -> Result<VolumeServer, VolumeError> {
    let limits = Limits::shared_by(total);
    let serve_error = |source| VolumeError::Serve { path: volume.host.clone(), source };
    let server = open_share(volume, limits).await.map_err(serve_error)?;
    let stream = link.open(&Request::Volume(Volume {
        target: volume.guest.clone(),
        read_only: volume.read_only,
        file: server.share.file_name(),
        owner_uid: geteuid().as_raw(),
        owner_gid: getegid().as_raw(),
    }))?;
    let (report_mounted, mounted) = oneshot::channel();
    let pump = pump::run(&server, stream, report_mounted).map_err(serve_error)?;
    let volume_server = VolumeServer { pump: tokio::spawn(pump).abort_handle() };
    match mounted.await {
        Ok(Ok(Reply::Done)) => Ok(volume_server),
        Ok(Ok(Reply::Failed(source))) => Err(VolumeError::Guest { path: volume.host.clone(), source }),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) | Err(_) => Err(VolumeError::UnexpectedReply { path: volume.host.clone() }),
    }
}

/// Opens the shared path on a blocking thread: it may be on a slow filesystem.
async fn open_share(volume: &VolumeSpec, limits: Limits) -> io::Result<Arc<Server>> {
    let (path, read_only) = (volume.host.clone(), volume.read_only);
    let opened = tokio::task::spawn_blocking(move || {
        let share = Share::open(&path, read_only)?;
        Ok(Arc::new(Server::new(share, limits)?))
    });
    opened.await.map_err(io::Error::other)?
}
