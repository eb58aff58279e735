//! Work that may block, on threads of its own.
//!
//! The agent has one thread for the link, and a file of the container may lie
//! in a filesystem that is served over that link: whoever waits for it there
//! waits for himself. So everything that touches the container's files runs
//! here, seeing them as the container does.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, FailureKind};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{chdir, chroot};
use tokio::sync::oneshot;

use crate::failure::{Context, SystemError, failure};
use crate::rootfs;

/// Stack of such a thread: the work is flat, and memory is the guest's own.
const STACK: usize = 512 * 1024;

/// Where a thread sees the container's files.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Before the start: below the agent's own mounts.
    Root,
    /// In the container's mount namespace, even when its process has changed its root.
    Container(Arc<OwnedFd>),
}

impl Place {
    /// Makes `/` of this thread the container's, for good.
    fn enter(&self) -> Result<(), SystemError> {
        unshare(CloneFlags::CLONE_FS).context("part from the agent's root")?;
        match self {
            Self::Root => chroot(rootfs::ROOT).context("enter the container's root")?,
            Self::Container(mounts) => {
                setns(mounts, CloneFlags::CLONE_NEWNS).context("enter the container's mounts")?;
            }
        }
        chdir("/").context("enter the container's root")
    }
}

/// Runs `work` on a thread of its own.
pub(crate) async fn blocking<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (done, wait) = oneshot::channel();
    std::thread::Builder::new()
        .stack_size(STACK)
        // A requester that has gone away needs no answer.
        .spawn(move || done.send(work()).ok())
        .context("make a thread")?;
    wait.await.unwrap_or_else(|_| Err(lost()))
}

/// Runs `work` on a thread whose root is the container's.
pub(crate) async fn inside<T, W>(place: Place, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    blocking(move || {
        place.enter()?;
        work()
    })
    .await
}

/// What should have answered is gone.
pub(crate) fn lost() -> Failure {
    failure(FailureKind::System, "the agent lost track of the request")
}
