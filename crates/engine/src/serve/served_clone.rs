//! A copy of a server's, and what is held for it.

use super::page_server::Lease;
use crate::launch_request::{CloneInfo, LaunchRequest};
use crate::supervisor_process::{SpawnError, SupervisorProcess};

/// A clone that lives, with its hold of the page server that gives it its memory.
#[derive(Debug)]
pub(super) struct ServedClone {
    // Dropped in this order: nobody waits for pages of a server that is gone.
    pub(super) supervisor: SupervisorProcess,
    pages: Option<Lease>,
}

/// A clone that is asked for.
#[derive(Debug)]
pub(super) struct RequestedClone {
    pub(super) request: LaunchRequest,
    pub(super) pages: Option<Lease>,
}

impl RequestedClone {
    /// Makes it, and waits until it holds or runs.
    pub(super) async fn start(self) -> Result<(ServedClone, CloneInfo), SpawnError> {
        let Self { request, pages } = self;
        let mut clone = ServedClone { supervisor: SupervisorProcess::start(&request).await?, pages };
        let info = clone.supervisor.ready().await?;
        Ok((clone, info))
    }
}

impl ServedClone {
    /// Gives it up, and waits until nothing is left of it.
    pub(super) async fn abandon(self) {
        let Self { supervisor, pages } = self;
        supervisor.abandon().await;
        drop(pages);
    }
}
