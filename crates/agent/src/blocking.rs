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
const STACK_BYTES: usize = 512 * 1024;

/// Where a thread sees the container's files.
#[derive(Debug, Clone)]
pub(crate) enum ContainerRoot {
    /// Before the start: below the agent's own mounts.
    Chroot,
    /// In the container's mount namespace, even when its process has changed its root.
    MountNamespace(Arc<OwnedFd>),
}

impl ContainerRoot {
    /// Makes `/` of this thread the container's, for good.
    fn enter(&self) -> Result<(), SystemError> {
        unshare(CloneFlags::CLONE_FS).context("part from the agent's root")?;
        match self {
            Self::Chroot => chroot(rootfs::ROOT).context("enter the container's root")?,
            Self::MountNamespace(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWNS).context("enter the container's mounts")?;
            }
        }
        chdir("/").context("enter the container's root")
    }
}

/// Runs `work` on a thread of its own.
pub(crate) async fn run_blocking<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (sender, result) = oneshot::channel();
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        // A requester that has gone away needs no answer.
        .spawn(move || sender.send(work()).ok())
        .context("make a thread")?;
    result.await.unwrap_or_else(|_| Err(lost_request()))
}

/// Runs `work` on a thread whose root is the container's.
pub(crate) async fn run_in_container<T, W>(root: ContainerRoot, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    run_blocking(move || {
        root.enter()?;
        work()
    })
    .await
}

/// What should have answered is gone.
pub(crate) fn lost_request() -> Failure {
    failure(FailureKind::System, "the agent lost track of the request")
}
