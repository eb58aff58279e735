//! Runs work that may block on separate threads.
//!
//! One thread of the agent serves the link, and a file of the container may be in
//! a volume that is served over that link: waiting for the file on that thread
//! would deadlock. So all access to the container's files runs on threads
//! of this module, with the container's view of the files.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, FailureKind};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{chdir, chroot};
use tokio::sync::oneshot;

use crate::failure::{Context, SystemError, failure};
use crate::rootfs;

/// Stack size of a thread. It is small because the call depth is low and the memory is the guest's.
const STACK_BYTES: usize = 512 * 1024;

/// How a thread enters the container's root.
#[derive(Debug, Clone)]
pub(crate) enum ContainerRoot {
    /// Before the start: by a chroot to the agent's mounts.
    Chroot,
    /// After the start: by entering the container's mount namespace, whose root is right even when
    /// the container's process has changed its own.
    MountNamespace(Arc<OwnedFd>),
}

impl ContainerRoot {
    /// Makes the container's root the root of this thread, permanently.
    fn enter(&self) -> Result<(), SystemError> {
        unshare(CloneFlags::CLONE_FS).context("unshare the agent's root")?;
        match self {
            Self::Chroot => chroot(rootfs::ROOT).context("enter the container's root")?,
            Self::MountNamespace(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWNS).context("enter the container's mount namespace")?;
            }
        }
        chdir("/").context("enter the container's root")
    }
}

/// Runs `work` on a new thread.
pub(crate) async fn run_blocking<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (sender, result) = oneshot::channel();
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        // The requester may be gone.
        .spawn(move || sender.send(work()).ok())
        .context("create a thread")?;
    result.await.unwrap_or_else(|_| Err(lost_request()))
}

/// Runs `work` on a new thread in the container's root.
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

/// The failure when the task or thread of a request has ended without a result.
pub(crate) fn lost_request() -> Failure {
    failure(FailureKind::System, "the request ended without a result")
}
