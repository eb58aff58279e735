//! A clone of a snapshot server, and the resources held for it.

use super::page_server::Lease;
use crate::Home;
use crate::launch_request::{CloneInfo, LaunchRequest};
use crate::supervisor_process::{SpawnError, SupervisorProcess};

/// A running clone, with its reference to the page server that supplies its memory.
#[derive(Debug)]
pub(super) struct ServedClone {
    // Dropped in this order, so that no clone waits for a page server that has ended.
    pub(super) supervisor: SupervisorProcess,
    pages: Option<Lease>,
    /// Its machine's id, once it is known.
    pub(super) id: String,
}

/// A clone that was requested but not started.
#[derive(Debug)]
pub(super) struct RequestedClone {
    pub(super) home: Home,
    pub(super) request: LaunchRequest,
    pub(super) pages: Option<Lease>,
}

impl RequestedClone {
    /// Starts it, and waits until it is ready or runs.
    pub(super) async fn start(self) -> Result<(ServedClone, CloneInfo), SpawnError> {
        let Self { home, request, pages } = self;
        let supervisor = SupervisorProcess::start(&home, &request).await?;
        let mut clone = ServedClone { supervisor, pages, id: String::new() };
        let info = clone.supervisor.ready().await?;
        clone.id.clone_from(&info.id);
        Ok((clone, info))
    }
}

impl ServedClone {
    /// Ends it, and waits until it is cleaned up.
    pub(super) async fn abandon(self) {
        let Self { supervisor, pages, .. } = self;
        supervisor.abandon().await;
        drop(pages);
    }
}
